"""The dense targets as compiled: the PTX that Triton emits, executed, keeps the bound, and a chain
is the loop of its steps."""

import re
from itertools import product

import numpy as np
import ptx
import pyebm.kernels
import pytest
import torch
from choice import thinned
from compiled import compiling
from dense_cases import assert_within_bound, correlated, mixture
from ptx_memory import PtxError
from pyebm.kernels import dense
from target_cases import start
from test_ptx import execute

import pyebm

pytestmark = pytest.mark.usefixtures("poison")

NOISE = pyebm.Noise(2**63 + 12345, step=7, stream=3, first_sample=11)
OPS = pyebm.kernels.OPS
MAKE = {
    "mixture": lambda count, dim: mixture(count, dim, "components"),
    "mixture-diagonal": lambda count, dim: mixture(count, dim, "both"),
    "gaussian-full": lambda _, dim: correlated(dim),
}
CASES = [
    ("sm_80", torch.float32, 5),
    ("sm_90", torch.bfloat16, 17),
    ("sm_90", torch.float64, 6),
    ("sm_90", torch.float32, 132),
]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Two shares of several blocks of components each, and chunks of one block of samples."""
    monkeypatch.setattr(dense, "_SHARES", 2)
    monkeypatch.setattr(dense, "_WORK", 0)


def compiled_score(x, density, target="sm_90"):
    out = torch.full_like(x, float("nan"))
    with compiling(target, execute):
        OPS["target_score"](out, x, density._index, density._checked("test", x))
    return out


@pytest.mark.parametrize(("make", "case"), thinned(product(MAKE, CASES), 3), ids=str)
def test_a_score(make, case):
    target, dtype, dim = case
    density, x = MAKE[make](140 if dim < 100 else 20, dim), start((3, dim), dtype)
    got = compiled_score(x, density, target)
    if dtype == torch.bfloat16:
        assert torch.equal(got, compiled_score(x.float(), density, target).to(dtype))
        return
    if make != "gaussian-full":
        assert_within_bound(got, density, x)
        return
    precision = torch.linalg.inv(density.covariance)
    far = density.mean.to(dtype).double() - x.double()
    bound = (min(dim, 128) + dim / 128 + 4) * torch.finfo(dtype).eps / 2 * (far.abs() @ precision.abs())
    slack = 1e-12 if dtype == torch.float64 else 0.0  # the inverse itself is float64's
    assert ((got - far @ precision).abs() <= bound + slack).all()


@pytest.mark.parametrize("make", MAKE)
def test_samples_are_their_own_in_any_place_batch_and_company(make):
    density, x = MAKE[make](70, 3), start((67, 3))
    whole = compiled_score(x, density)
    for part in (slice(2, 3), slice(60, 67)):
        assert torch.equal(compiled_score(x[part], density), whole[part])
    bad = x.clone()
    bad[1, 1], bad[66, 2] = torch.nan, torch.inf
    got = compiled_score(bad, density)
    rest = [b for b in range(67) if b not in (1, 66)]
    assert torch.equal(got[rest], whole[rest])
    assert not got[[1, 66]].isfinite().all(1).any()


@pytest.mark.parametrize(
    ("dtype", "make"), thinned(product((torch.float32, torch.float16), MAKE), 2), ids=str
)
def test_a_chain_is_the_loop(dtype, make):
    density, x = MAKE[make](70, 5), start((3, 2, 5), dtype).transpose(0, 1)
    x = x[:, :, :].reshape(2, 15)[:, ::3]  # strides of its own
    assert not x.is_contiguous()
    rows, heat = (
        torch.linspace(0.01, 0.03, 3, dtype=torch.float64),
        torch.tensor([0.5, 1.5], dtype=torch.float64),
    )
    params, name = density._checked("test", x), NOISE._named(2, x)[0]
    got, states, diverged = x.clone(), torch.full((1, 2, 5), float("nan"), dtype=dtype), torch.full((2,), 77)
    got[1, 2] = torch.inf
    expected = got.clone()
    schedule = (rows, heat, True, None)
    with compiling("sm_90", execute):
        OPS["langevin_chain"](
            got, density._index, params, 3, 0.0, 0.0, name, *schedule, states, 2, diverged, -1.5, 1.5
        )
        for k in range(3):
            score, before = torch.empty_like(expected), expected.clone()
            OPS["target_score"](score, before, density._index, params)
            step = NOISE.at(step=NOISE.step + k)._named(2, x)[0]
            OPS["langevin_step"](
                expected, before, score, 0.0, 0.0, step, rows[k : k + 1], heat, None, None, -1.5, 1.5
            )
            if k == 1:
                torch.testing.assert_close(states[0], expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
    assert diverged.tolist() == [-1, 0]
    assert got[0].isfinite().all()


def test_components_of_no_weight_and_samples_far_away():
    density = mixture(9, 2)
    x = 1e6 * start((3, 2))
    got = compiled_score(x, density)
    assert got.isfinite().all()
    assert_within_bound(got, density, x)


def test_no_tensor_core_rounds_a_float32():
    x, density = start((3, 64)), mixture(30, 64)
    with compiling("sm_90") as launches:
        for one in (density, correlated(64)):
            OPS["target_score"](x.clone(), x, one._index, one._checked("test", x))
    for launch in launches:
        assert "mma" not in launch.compiled.asm["ptx"]
        assert "tf32" not in launch.compiled.asm["ptx"]


@pytest.mark.parametrize("wrong", [r"cp\.async\.wait_group[^;]*;", r"bar\.sync[^;]*;"])
def test_a_planted_copy_that_is_not_waited_for(wrong):
    density, x = mixture(70, 20), start((3, 20))
    params, out = density._checked("test", x), torch.full_like(x, float("nan"))

    def spoiled(launch):
        text = launch.compiled.asm["ptx"]
        if launch.name == "gather_kernel":
            assert re.search(wrong, text)
            text = re.sub(wrong, "", text)
        shared = launch.compiled.metadata.shared
        ptx.launch(
            text, launch.grid, 32 * launch.compiled.metadata.num_warps, launch.run_time_arguments, shared
        )

    def score():
        with compiling("sm_90", spoiled):
            OPS["target_score"](out, x, density._index, params)
        assert_within_bound(out, density, x)

    with pytest.raises((PtxError, AssertionError)):
        score()


def test_nothing_is_compiled_again_for_another_batch():
    density = mixture(100, 48)
    with compiling("sm_90") as launches:
        for batch, steps in ((1, 1), (16, 2), (33, 16), (1000, 17)):
            x, name = torch.empty(batch, 48), pyebm.Noise(batch)._name
            OPS["langevin_chain"](x, density._index, density._checked("", x), steps, 0.1, 1.0, name)
    kernels = {(launch.name, launch.compiled.hash) for launch in launches}
    assert sorted(name for name, _ in kernels) == ["enter_kernel", "finish_kernel", "gather_kernel"]


def test_how_components_are_shared_follows_from_their_number():
    dense._SHARES = 64
    block, _ = dense.Block(8, 4, 8, 16, 4, 32), 4
    for components in (1, 64, 65, 1797, 10_000, 100_000):
        shares, blocks = dense.shares_of(components, block)
        assert shares <= 64
        assert (shares - 1) * blocks < -(-components // 64) <= shares * blocks
    assert dense.shares_of(1797, block) == (29, 1)
    assert np.prod(dense.shares_of(100_000, block)) >= 1563
