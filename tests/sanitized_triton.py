"""Every Triton kernel, run by the semantics of ttsem, which reports what the interpreter hides:
accesses out of bounds, races between threads and between programs, values used before they were
written. ``make sanitize`` installs it and runs this file; pytest does not collect it by itself.
Several programs a launch, and the reference's bits besides.
"""

import pyebm.kernels
import pytest
import sampler_op_cases
import torch
from target_cases import COUPLED, KINDS, elements_of, make, start

import pyebm
from pyebm import reference

NAME = pyebm.Noise(2**63 + 12345, step=7, stream=3, first_sample=11)._name
LOSS = (0.3, 1.0, 0.0, 1.0, 0.5, True)


def same(op, results, *args):
    ours, theirs = results(), results()
    pyebm.kernels.OPS[op](*ours, *args)
    reference.OPS[op](*theirs, *args)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b) if a.dim() > 1 else torch.allclose(a, b, rtol=1e-6)


def laid_out(shape, dtype):
    if len(shape) > 2:
        return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
    return torch.randn(shape).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(2, 4104), (130, 2), (67, 17), (2, 3, 8, 6)], ids=str)
def test_ops(shape, dtype):
    torch.manual_seed(0)
    x, score = laid_out(shape, dtype), laid_out(shape, dtype)
    rows = torch.linspace(0.1, 1.1, shape[0], dtype=torch.float64)

    def one():
        return [torch.empty_like(x)]

    same("normal_", one, NAME)
    same("uniform_", one, NAME)
    same("perturb", one, x, 0.7, 0.3, NAME, None, rows)
    same("langevin_step", one, x, score, 0.1, 0.5, NAME)
    same(
        "affine_step",
        one,
        x,
        score,
        0.9,
        0.1,
        0.2,
        NAME,
        rows,
        None,
        None,
        None,
        x > 0,
        -1.0,
        1.0,
        0.8,
        None,
        None,
    )
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    above = torch.tensor(1.5, dtype=wide)
    same("denoising_grad", one, above, x, *LOSS, 4, NAME)
    same(
        "denoising_loss",
        lambda: [torch.empty(shape[0], dtype=wide), torch.empty_like(x)],
        x,
        *LOSS,
        1,
        NAME,
        rows,
    )
    same("denoising_loss", lambda: [torch.empty((), dtype=wide), torch.empty_like(x)], x, *LOSS, 4, NAME)
    same("scale_", lambda: [x.clone()], above)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(2, 2080), (130, 2), (67, 17), (2, 3, 8, 6)], ids=str)
def test_sampler_ops(shape, dtype):
    ours, theirs = (sampler_op_cases.results(ops, shape, dtype) for ops in (pyebm.kernels.OPS, reference.OPS))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(70, 17), (3, 100)], ids=str)
def test_chains(kind, shape):
    target, x = make(kind, elements_of(shape)), start(shape)

    def results():
        return [x.clone()]

    same("langevin_chain", results, target._index, target._checked("test", x), 2, 0.003, 1.0, NAME)
    same("target_score", results, x, target._index, target._checked("test", x))


@pytest.mark.parametrize("kind", COUPLED)
@pytest.mark.parametrize("shape", [(3, 1100), (2, 3, 20, 20)], ids=str)
def test_long_samples(kind, shape):
    """The state is in memory, where a thread reads elements that other threads have written."""
    target, x = make(kind, elements_of(shape)), laid_out(shape, torch.float32)
    params = target._checked("test", x)
    same("langevin_chain", lambda: [x.clone()], target._index, params, 3, 0.003, 1.0, NAME)
    same("target_score", lambda: [x.clone()], x, target._index, params)
