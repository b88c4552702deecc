"""The networks' Triton kernels under Triton's interpreter: the bits of the CPU's kernels. Run by
test_triton.py, like interpreted_triton.py."""

import math
from itertools import product

import pytest
import torch
from cases import assert_equal
from choice import once_each, thinned
from network_calls import NAME, chain, curvatures, normal, painting, scored
from network_cases import FUNCTIONS, far_out, network

import pyebm
from pyebm import _ops

pytestmark = pytest.mark.skipif(
    _ops.simd() == "baseline", reason="without a fused multiply-add the bits are others"
)
OPS = _ops._triton()
SCORE, CHAIN = OPS["network_score"], OPS["network_chain"]
CASES = [
    (network("energy", 2, (3, 67)), 17, torch.float32),
    (network("score", 5, (6, 4), ("gelu", "elu")), 3, torch.bfloat16),
    (network("energy", 6, (6, 7, 7), "tanh", (0, 2), (0, 2, 3)), 18, torch.float64),
    (network("score", 70, (3,), "softplus", skip=(0, 1), quadratic=-0.3), 17, torch.float32),
    (network("energy", 1, (), residual=(0,)), 5, torch.float16),
]


@pytest.mark.parametrize(("net", "batch", "dtype"), CASES, ids=range(len(CASES)))
def test_the_cpus_bits(net, batch, dtype):
    x = normal(batch, net.dim, dtype=dtype)
    assert_equal(scored(net, x, op=SCORE), scored(net, x))
    assert_equal(chain(net, x, 2, op=CHAIN), chain(net, x, 2))


WIDE = (torch.float32, torch.float64)
INFINITE = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered")


@INFINITE
@pytest.mark.parametrize(("activation", "dtype"), once_each(product(FUNCTIONS, WIDE)), ids=str)
def test_every_activation(activation, dtype):
    """Also far out, and where it is not finite."""
    net = network("energy", 1, (3,), activation, last=activation)
    x = far_out(30, dtype)
    for got, want in zip(scored(net, x, op=SCORE), scored(net, x), strict=True):
        assert_equal(got.nan_to_num(7.0), want.nan_to_num(7.0))


@INFINITE
def test_every_option_of_a_chain():
    net, x = network("energy", 3, (4,)), normal(18, 3)
    x[1, 0], x[2, -1] = math.nan, 1e37
    draw = torch.Generator().manual_seed(1)
    rows, each = torch.rand(18, generator=draw), torch.rand(3, generator=draw).double() / 50
    biases = net.biases() + normal(18, len(net.biases()), seed=2).double()
    for options in (
        {"low": -0.8, "high": 0.9, "step_size_rows": rows, "temperature_rows": rows[:1]},
        {"step_size_rows": each, "step_size_per_step": True, "temperature_rows": rows},
        {"seeds": torch.arange(18) * 2**40, "ids": torch.arange(18).flip(0).contiguous()},
        {"biases": biases},
        {"biases": biases[:3], "biases_per_step": True},
        {"mask": x > 0, "score_clip": 0.3},
        painting(x, 3),
    ):
        made = []
        for op in (CHAIN, torch.ops.pyebm.network_chain):
            states, diverged = x.new_empty(1, *x.shape), torch.empty(18, dtype=torch.int64)
            state = chain(net, x, 3, op=op, states=states, thin=2, diverged=diverged, **options)
            made.append((state.nan_to_num(7.0), states.nan_to_num(7.0), diverged))
        assert_equal(*made)


def test_strides_and_a_lack_of_one_of_the_results():
    net, plain = network("energy", 6, (4,)), normal(17, 2, 3)
    x = plain.transpose(1, 2).contiguous().transpose(1, 2)
    layout, params = net.packed()
    want, energies = scored(net, plain.flatten(1))
    score, energy = torch.empty_like(x), torch.empty(17, dtype=torch.float64)
    SCORE(score, x, layout, params, None, None)
    SCORE(None, x, layout, params, None, energy)
    assert_equal(score, want.view(17, 2, 3))
    assert_equal(energy.float(), energies)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_inpainting(dtype):
    """A score_clip that half precision does not hold; a mask that samples share, and known data,
    in strides of their own."""
    net, x = network("score", 6, (4,)), normal(17, 6, dtype=dtype)
    options = painting(x, 2) | {"score_clip": 0.3001, "seeds": torch.arange(17)}
    options["mask"] = options["mask"][:1].clone().expand(17, 6)
    want = chain(net, x, 2, **options)
    options["known"] = options["known"].t().contiguous().t()
    assert_equal(chain(net, x, 2, op=CHAIN, **options), want)


@pytest.mark.parametrize(("net", "batch", "dtype"), [CASES[0], CASES[2], CASES[4]], ids=range(3))
def test_second_derivatives(net, batch, dtype):
    x, v = normal(batch, net.dim, dtype=dtype), normal(net.dim, batch, dtype=dtype, seed=1).t()
    biases = normal(batch, len(net.biases()), seed=2)
    assert_equal(curvatures(net, x, v, OPS, biases), curvatures(net, x, v, biases=biases))


@INFINITE
@pytest.mark.parametrize(
    ("activation", "dtype"),
    thinned([*((name, torch.float32) for name in FUNCTIONS), ("gelu_tanh", torch.float64)], 2),
)
def test_second_derivatives_of_every_activation(activation, dtype):
    net = network("energy", 1, (3,), activation, last=activation)
    x = far_out(30, dtype)
    got, want = (curvatures(net, x, torch.full_like(x, 0.5), ops) for ops in (OPS, None))
    for one, other in zip(got, want, strict=True):
        assert_equal(one.nan_to_num(7.0), other.nan_to_num(7.0))


def test_energies_of_long_samples():
    net, x = network("energy", 1030, (2,), skip=(1,)), normal(2, 1030)
    assert_equal(scored(net, x, op=SCORE), scored(net, x))


def test_what_does_not_fit_is_refused():
    net, x = network("energy", 2, (5,)), normal(3, 2)
    layout, params = net.packed()
    with pytest.raises(ValueError, match="params must have"):
        SCORE(torch.empty_like(x), x, layout, params[:-1])
    with pytest.raises(ValueError, match="biases must have a row of 6"):
        SCORE(torch.empty_like(x), x, layout, params, torch.zeros(2, 6))
    with pytest.raises(ValueError, match="has no energy"):
        SCORE(None, x, *network("score", 2, (3,)).packed(), None, torch.empty(3))
    with pytest.raises(ValueError, match="gives scores has no Hessian"):
        curvatures(network("score", 2, (3,)), x, x.clone(), OPS)
    with pytest.raises(ValueError, match="score or energy must be given"):
        SCORE(None, x, layout, params)
    known = {"known": torch.zeros_like(x), "marginals": torch.ones(2, 2).double()}
    with pytest.raises(ValueError, match="known needs a mask"):
        CHAIN(x, layout, params, 2, 0.01, 1.0, NAME, **known)
    with pytest.raises(ValueError, match=r"marginals must have a row of 2 for each of 3 steps, got \(2, 2\)"):
        CHAIN(x, layout, params, 3, 0.01, 1.0, NAME, mask=x > 0, **known)
    empty = torch.empty(0, 2)
    assert chain(net, empty, op=CHAIN).shape == scored(net, empty, op=SCORE)[0].shape == (0, 2)


def test_a_public_chain():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.SiLU(), torch.nn.Linear(5, 1))
    target, x = pyebm.targets.MLPEnergy(net, 0.2), normal(9, 2)
    for options in ({"thin": 1}, {"score_clip": 0.5}):
        both = (
            pyebm.langevin_chain(x, target, 2, 0.02, pyebm.Noise(3), backend=backend, **options)
            for backend in ("triton", "cpu")
        )
        assert_equal(*both)
