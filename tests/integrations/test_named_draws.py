"""NamedDraws: every draw of torch's functions by its name, in whatever form it is asked for."""

from __future__ import annotations

import pickle

import pytest
import torch
from cases import assert_equal

import pyebm
from pyebm import Noise
from pyebm.integrations import NamedDraws, _named_draws

NOISE = Noise(3, step=2)
X = torch.zeros(5, 3)
P = torch.tensor([[0.2, 0.0, 0.8], [1.0, 2.0, 3.0]])
NORMALS = NOISE.randn((5, 3))
FORMS = {
    "randn": lambda: torch.randn(5, 3),
    "randn of a tuple": lambda: torch.randn((5, 3)),
    "randn of a size": lambda: torch.randn(size=(5, 3), requires_grad=True).detach(),
    "randn_like": lambda: torch.randn_like(X),
    "normal_": lambda: X.clone().normal_(),
    "float64": lambda: torch.randn(5, 3, dtype=torch.float64).float(),
    "Normal": lambda: torch.empty_like(X).normal_(mean=1.0, std=2.0).sub(1).div(2),
}
OTHERS = {
    "rand": lambda: torch.rand(5, 3),
    "rand_like": lambda: torch.rand_like(X, dtype=torch.float16),
    "scalar": lambda: torch.rand(()),
    "uniform_": lambda: X.clone().uniform_(-1, 1),
    "randint": lambda: torch.randint(-2, 5, (6,)),
    "randint of a high": lambda: torch.randint(high=5, size=(6, 2), dtype=torch.int32),
    "wide randint": lambda: torch.randint(0, 2**40, (3,)),
    "randint_like": lambda: torch.randint_like(X, 5),
    "randperm": lambda: torch.randperm(9),
    "bernoulli": lambda: torch.bernoulli(torch.full((9,), 0.5)),
    "bernoulli_": lambda: torch.zeros(9).bernoulli_(0.5),
    "exponential_": lambda: X.clone().exponential_(),
    "complex": lambda: torch.randn(4, dtype=torch.complex64),
    "normal": lambda: torch.normal(0.0, 1.0, (3,)),
    "multinomial": lambda: torch.multinomial(P, 1),
    "multinomial of two": lambda: torch.multinomial(P, 2, replacement=True),
    "Categorical": lambda: torch.distributions.Categorical(logits=P).sample(),
    "Gamma": lambda: torch.distributions.Gamma(torch.ones(3), 1.0).sample(),
    "out": lambda: torch.randn(3, out=torch.empty(3)),
}


@pytest.mark.parametrize("form", FORMS)
def test_normals(form):
    with NamedDraws(NOISE) as named:
        torch.testing.assert_close(FORMS[form](), NORMALS, rtol=0, atol=3e-7 if form == "Normal" else 0)
    assert named.draws.count == 1


@pytest.mark.parametrize("form", OTHERS)
def test_the_rest(form):
    draw, drawn = OTHERS[form], []
    for seed, noise in ((0, NOISE), (1, NOISE), (2, NOISE.at(stream=5))):
        torch.manual_seed(seed)
        with NamedDraws(noise):
            drawn.append(torch.stack([draw(), draw()]))
    plain = draw()
    assert (drawn[0].shape[1:], drawn[0].dtype) == (plain.shape, plain.dtype)
    assert_equal(drawn[0], drawn[1])
    assert form.startswith("multinomial") or form == "Categorical" or not torch.equal(drawn[0], drawn[2])


def test_a_sample_keeps_its_numbers():
    """In whatever batch: normals, uniforms, integers and indices."""
    draws = (
        lambda rows: torch.randn(5, 3)[rows],
        lambda rows: torch.rand(5)[rows],
        lambda rows: torch.randint(0, 1000, (5, 2))[rows],
        lambda rows: torch.multinomial(torch.arange(1.0, 41).expand(5, 40), 1)[rows],
    )
    with NamedDraws(NOISE):
        whole = [draw(slice(2, None)) for draw in draws]
    with NamedDraws(NOISE.shard(first_sample=2)):
        parts = [
            torch.randn(3, 3),
            torch.rand(3),
            torch.randint(0, 1000, (3, 2)),
            torch.multinomial(torch.arange(1.0, 41).expand(3, 40), 1),
        ]
    for part, expected in zip(parts, whole, strict=True):
        assert_equal(part, expected)


def test_the_laws():
    with NamedDraws(NOISE):
        u = torch.rand(200_000)
        half = torch.rand(100_000, dtype=torch.float16)
        k = torch.randint(3, 10, (70_000,))
        chosen = torch.multinomial(P[1].expand(60_000, 3), 1)
    assert bool((u >= 0).all() and (u < 1).all() and (half < 1).all())
    assert abs(u.mean() - 0.5) < 3e-3
    assert abs(u.square().mean() - 1 / 3) < 3e-3
    torch.testing.assert_close(k.bincount(minlength=10)[3:] / 10_000, torch.ones(7), atol=0.04, rtol=0)
    torch.testing.assert_close(chosen.flatten().bincount() / 10_000, P[1], atol=0.06, rtol=0)


def test_what_stays_as_it_was():
    """A generator that is given, code outside, and a source that is no Noise."""
    generator = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    plain = torch.randn(5, 3, generator=generator())
    with NamedDraws(NOISE) as named:
        assert_equal(torch.randn(5, 3, generator=generator()), plain)
        assert named.draws.count == 0
    torch.manual_seed(4)
    want = torch.randn(5, 3), torch.rand(4)
    for source in (None, torch.randn_like):
        torch.manual_seed(4)
        with NamedDraws(source):
            got = torch.randn(5, 3), torch.rand(4)
        for one, other in zip(got, want, strict=True):
            assert_equal(one, other)


def test_it_goes_on_and_nests():
    named = NamedDraws(NOISE)
    with named:
        first = torch.randn(2, 2)
    with named, NamedDraws(NOISE.at(stream=1)):
        inner = torch.randn(2, 2)
    with named:
        second = torch.randn(2, 2)
    assert_equal(first, NOISE.randn((2, 2)))
    assert_equal(inner, NOISE.at(stream=1).randn((2, 2)))
    assert_equal(second, NOISE.at(step=3).randn((2, 2)))
    assert pickle.loads(pickle.dumps(named.draws)).count == 2


def test_what_is_refused():
    with pytest.raises(TypeError, match="noise: must be a Noise"):
        NamedDraws(3)
    with NamedDraws(NOISE), pytest.raises(RuntimeError, match="multinomial: the weights must be >= 0"):
        torch.multinomial(torch.tensor([[0.0, -1.0]]), 1)
    named = pyebm.Noise(torch.tensor([1, 2]))
    with NamedDraws(named), pytest.raises(ValueError, match="seed names 2 samples, got a batch of 3"):
        torch.randn(3, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_uniform_is_never_one(dtype):
    """The Noise's are in (0, 1], torch's in [0, 1), and code that makes an index relies on it."""

    class Ends:
        def rand(self, shape, **_):
            return torch.tensor([1.0, 2.0**-32], dtype=torch.float64).reshape(shape)

    low, high = _named_draws.uniforms(Ends(), torch.empty(2, dtype=dtype))
    assert low == 0
    assert 0.99 < high < 1
