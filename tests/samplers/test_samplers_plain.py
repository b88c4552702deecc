"""The samplers' step without the dispatcher: it gives the op's bits where it runs and leaves the
rest to the op, and the op's errors are the same."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal

from pyebm import Noise, _ops
from pyebm.samplers import AnnealedLangevin, Langevin
from pyebm.samplers._plain import PlainStep

pytestmark = [
    pytest.mark.usefixtures("poison", "one_thread"),
    pytest.mark.skipif(_ops.backends()["cpu"] is not True, reason="the CPU library is not built"),
]

SCORES = {
    "its own": lambda x: -torch.sin(x),
    "the state": lambda x: x,
    "of another layout": lambda x: -torch.sin(x).mT.contiguous().mT,
    "expanded": lambda x: x.new_tensor(0.3).expand(x.shape),
    "narrower": lambda x: -torch.sin(x).to(torch.bfloat16),
    "negated lazily": lambda x: torch._neg_view(torch.sin(x)),
    "a parameter": lambda x: torch.nn.Parameter(-torch.sin(x)),
    "that wants a gradient": lambda x: (-torch.sin(x)).requires_grad_(),
}
PLAIN = ("its own", "the state", "that wants a gradient")


@pytest.fixture
def outcomes(monkeypatch):
    """Collects what each call of a plain step returned."""
    seen: list[bool] = []
    call = PlainStep.__call__
    monkeypatch.setattr(
        PlainStep, "__call__", lambda self, score, k: seen.append(call(self, score, k)) or seen[-1]
    )
    return seen


def plain_and_by_op(monkeypatch, run):
    """Returns a run's results with the plain step, and by the op."""
    got = run()
    with monkeypatch.context() as patch:
        patch.setattr(PlainStep, "for_run", lambda *_: None)
        return got, run()


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bits_of_the_op(name, dtype, outcomes, monkeypatch):
    x0, score = normal(6, 5, dtype=dtype), SCORES[name]
    noise = Noise(-3, first_sample=7, step=2**32 - 9, stream=2)
    got, want = plain_and_by_op(
        monkeypatch, lambda: Langevin(score, 0.1, temperature=0.5)(x0, 8, noise=noise)
    )
    assert_equal(got, want)
    assert outcomes == [name in PLAIN] * 8


@pytest.mark.parametrize("shape", [(64, 2), (1,), (3, 2500), (40, 1, 700), (0, 3), (2, 0)])
def test_shapes(shape, outcomes, monkeypatch):
    x0, noise = normal(*shape), Noise(5)
    sampler = AnnealedLangevin(lambda x, s: -torch.sin(x) * s.mean(), [2.0, 1.0], 0.05, 3, temperature=0.7)
    got, want = plain_and_by_op(monkeypatch, lambda: sampler(x0, noise=noise))
    assert_equal(got, want)
    assert outcomes == [True] * 6


def test_inpainting_too(outcomes, monkeypatch):
    """Inpainting's first stream is the step's own. A mask is an option, so the op takes the
    step."""
    x0, mask = normal(6, 5), normal(6, 5, seed=2) > 0
    sampler = AnnealedLangevin(
        lambda x, s: -x * s.mean(), [2.0, 1.0], 0.05, 3, mask=mask, known=normal(6, 5, seed=3)
    )
    got, want = plain_and_by_op(monkeypatch, lambda: sampler(x0, noise=Noise(5)))
    assert_equal(got, want)
    assert not outcomes


@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        (lambda x: x[:, :4].clone(), ValueError, r"score must have x's shape \(6, 5\), got \(6, 4\)"),
        (lambda x: x.reshape(5, 6), ValueError, r"score must have x's shape \(6, 5\), got \(5, 6\)"),
        (
            lambda x: x.double(),
            TypeError,
            "score must have x's dtype torch.float32 or a narrower one, got torch.float64",
        ),
        (lambda x: x.to_sparse(), TypeError, "score must be a dense tensor"),
        (lambda x: x.to_sparse_csr(), TypeError, "score must be a dense tensor"),
        (lambda x: x.to("meta"), ValueError, "score must be on x's device cpu, got meta"),
        (lambda x: x.tolist(), TypeError, "score must be a tensor, got list"),
        (
            lambda x: x.as_strided((6, 5), (5, 1), 1) if x.untyped_storage().resize_(124) else x,
            ValueError,
            "must not overlap",
        ),
    ],
    ids=["shape", "as many elements", "dtype", "sparse", "csr", "device", "list", "overlap"],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_refused(score, error, message):
    with pytest.raises(error, match=message):
        Langevin(score, 0.1)(normal(6, 5), 3, noise=Noise(0))


def test_a_profile_shows_the_steps():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        Langevin(torch.neg, 0.1)(normal(6, 5), 4, noise=Noise(0))
    assert sum(event.name == "pyebm::langevin_step" for event in profile.events()) == 4


@pytest.mark.parametrize(
    "options",
    [{"clamp": (-1, 1)}, {"score_clip": 0.5}, {"temperature": torch.ones(6)}, {"backend": "reference"}],
)
def test_options_are_the_op_s(options, outcomes):
    Langevin(torch.neg, 0.1, **options)(normal(6, 5), 2, noise=Noise(0))
    Langevin(torch.neg, 0.1)(normal(6, 5, dtype=torch.bfloat16), 2, noise=Noise(0))
    Langevin(torch.neg, 0.1)(normal(6, 5), 2, noise=Noise(torch.arange(6)))
    Langevin(torch.neg, 0.1)(normal(5, 6).mT, 2, noise=Noise(0))
    assert not outcomes
