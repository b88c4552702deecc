"""langevin_chain and target_score as compiled: the PTX that Triton emits, executed, gives the
reference's bits."""

import re

import ptx
import pyebm.kernels
import pytest
import torch
from compiled import compiling
from ptx_memory import PtxError
from target_cases import COUPLED, KINDS, elements_of, make, start
from test_ptx import execute

import pyebm
from pyebm import reference

NAME = pyebm.Noise(2**63 + 12345, step=7, stream=3, first_sample=11)._name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("target", "shape", "dtype"),
    [
        ("sm_80", (2, 100), torch.float32),
        ("sm_90", (5, 17), torch.bfloat16),
        ("sm_90", (6, 2), torch.float64),
    ],
    ids=str,
)
def test_a_chain(kind, target, shape, dtype):
    density, x = make(kind, elements_of(shape)), start(shape, dtype)
    x[-1, -1] = torch.finfo(dtype).max  # leaves some targets' domain at the first step
    numbers = density._checked("test", x)
    results = []
    for op in (pyebm.kernels.OPS["langevin_chain"], reference.OPS["langevin_chain"]):
        state, states, diverged = (
            x.clone(),
            torch.full((1, *shape), float("nan"), dtype=dtype),
            torch.zeros(shape[0], dtype=torch.int64),
        )
        with compiling(target, execute):
            rows = torch.linspace(0.001, 0.003, 3)
            op(
                state,
                density._index,
                numbers,
                3,
                0.0,
                0.7,
                NAME,
                rows,
                None,
                True,
                None,
                states,
                2,
                diverged,
                None,
                1e30,
            )
        results.append((state, states, diverged))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert (results[0][2][:-1] == -1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_score(kind):
    x = start((3, 33))
    density = make(kind, 33)
    numbers = density._checked("test", x)
    ours, theirs = torch.full_like(x, float("nan")), torch.empty_like(x)
    with compiling("sm_90", execute):
        pyebm.kernels.OPS["target_score"](ours, x, density._index, numbers)
    reference.OPS["target_score"](theirs, x, density._index, numbers)
    assert torch.equal(ours, theirs)


def test_nothing_is_compiled_again_for_steps_seed_or_step_size():
    x, density = start((4, 48)), make("double_well", 48)
    with compiling("sm_90") as launches:
        for n_steps, step_size in ((1, 0.1), (16, 1.0), (17, 0.5)):
            name = pyebm.Noise(n_steps, step=n_steps)._name
            pyebm.kernels.OPS["langevin_chain"](
                x, density._index, density._checked("", x), n_steps, step_size, 1.0, name
            )
    assert len({launch.compiled.hash for launch in launches}) == 1


@pytest.mark.parametrize("kind", COUPLED)
@pytest.mark.parametrize(
    ("target", "shape", "dtype"),
    [("sm_90", (2, 1100), torch.float32), ("sm_80", (1, 1032), torch.bfloat16)],
    ids=str,
)
def test_long_samples(kind, target, shape, dtype):
    """No tile holds a sample; the number of steps is odd, so the last state is in the other
    buffer."""
    x = start(shape, dtype)
    density = make(kind, shape[1])
    numbers = density._checked("test", x)
    with compiling(target, execute) as launches:
        ours, score = x.clone(), torch.full_like(x, float("nan"))
        pyebm.kernels.OPS["langevin_chain"](ours, density._index, numbers, 3, 0.003, 1.0, NAME)
        pyebm.kernels.OPS["target_score"](score, x, density._index, numbers)
    assert launches[0].arguments["spare"] is not None
    theirs, true_score = x.clone(), torch.empty_like(x)
    reference.OPS["langevin_chain"](theirs, density._index, numbers, 3, 0.003, 1.0, NAME)
    reference.OPS["target_score"](true_score, x, density._index, numbers)
    assert torch.equal(ours, theirs)
    assert torch.equal(score, true_score)


def test_a_missing_barrier_between_two_steps_is_reported():
    """Rosenbrock's kernel has one barrier only, between writing a state and reading it."""
    x, density = start((1, 1100)), make("rosenbrock", 1100)
    numbers = density._checked("test", x)

    def without_barriers(launch):
        text, count = re.subn(r"bar(?:\.warp)?\.sync[^;]*;", "", launch.compiled.asm["ptx"])
        assert count == 1
        threads = 32 * launch.compiled.metadata.num_warps
        ptx.launch(text, launch.grid, threads, launch.run_time_arguments, launch.compiled.metadata.shared)

    with compiling("sm_90", without_barriers), pytest.raises(PtxError, match="a race in global memory"):
        pyebm.kernels.OPS["langevin_chain"](x, density._index, numbers, 2, 0.003, 1.0, NAME)
