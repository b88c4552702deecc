"""The kernels as compiled: the PTX that Triton emits, executed, gives the reference's bits."""

from itertools import product

import ptx
import pyebm.kernels
import pytest
import sampler_op_cases
import torch
from choice import thinned
from compiled import compiling
from run_cases import assert_the_references_bits

import pyebm
from pyebm import reference

NOISE = pyebm.Noise(2**63 + 12345, step=7, stream=3, first_sample=11)
NAME = NOISE._name
LOSS = (0.3, 1.0, 0.0, 1.0, 0.5, True)


def execute(launch):
    warp, warps = launch.compiled.metadata.target.warp_size, launch.compiled.metadata.num_warps
    metadata = launch.compiled.metadata
    ptx.launch(
        launch.compiled.asm["ptx"], launch.grid, warp * warps, launch.run_time_arguments, metadata.shared
    )


def as_compiled(target, op, results, *args, **kwargs):
    """Pairs of results, of the op as compiled and of its reference; ``results()`` makes the tensors
    that they write."""
    ours, theirs = results(), results()
    with compiling(target, execute):
        pyebm.kernels.OPS[op](*ours, *args, **kwargs)
    reference.OPS[op](*theirs, *args, **kwargs)
    return zip(ours, theirs, strict=True)


def data(shape, dtype, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


TARGETS = ["sm_80", "sm_90"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# A sample of 2176 elements has full tiles, and a last tile that is cut.
SHAPES = [(3, 2176), (3, 72), (130, 2), (5, 17)]


@pytest.fixture(params=TARGETS)
def target(request):
    return request.param


@pytest.mark.parametrize(("target", "shape", "dtype"), thinned(product(TARGETS, SHAPES, DTYPES), 3), ids=str)
def test_ops(target, shape, dtype):
    x, score = data(shape, dtype), data(shape, dtype, seed=1)
    rows = torch.linspace(0.1, 1.1, shape[0], dtype=torch.float64)

    def empty(*_):
        return [torch.full_like(x, float("nan"))]

    for op, args, kwargs in (
        ("normal_", (NAME,), {}),
        ("perturb", (x, 0.7, 0.3, NAME), {"sigma_rows": rows}),
        ("langevin_step", (x, score, 0.1, 0.5, NAME), {}),
        ("affine_step", (x, score, 0.9, 0.1, 0.2, NAME, rows), {"mask": None}),
        (
            "denoising_grad",
            (
                torch.tensor(1.5, dtype=torch.float64 if dtype == torch.float64 else torch.float32),
                x,
                *LOSS,
                4,
                NAME,
            ),
            {},
        ),
    ):
        if op == "affine_step":
            args, kwargs = (*args, None, None), {}
        if op == "affine_step":
            args = (*args, None, x > 0, -1.0, 1.0, 0.8, None, None)
        if op == "perturb":
            args, kwargs = (*args, None, rows), {}
        for a, b in as_compiled(target, op, empty, *args, **kwargs):
            assert torch.equal(a, b), op


SAMPLERS = product(TARGETS, [(2, 1040), (130, 2), (3, 4, 5)], [torch.float32, torch.bfloat16, torch.float64])


@pytest.mark.parametrize(("target", "shape", "dtype"), thinned(SAMPLERS, 4), ids=str)
def test_sampler_ops(target, shape, dtype):
    with compiling(target, execute):
        ours = list(sampler_op_cases.results(pyebm.kernels.OPS, shape, dtype))
    for a, b in zip(ours, sampler_op_cases.results(reference.OPS, shape, dtype), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("reduction", ["sample", "mean"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_loss_and_gradient(target, reduction, per_sample):
    pred = data((5, 2056), torch.float32)
    rows = torch.linspace(0.1, 1.1, 5) if per_sample else None

    def results():
        return [
            torch.full((5,) if reduction == "sample" else (), float("nan")),
            torch.full_like(pred, float("nan")),
        ]

    (loss, expected), (grad, expected_grad) = as_compiled(
        target, "denoising_loss", results, pred, *LOSS, pyebm._schemas.REDUCTIONS[reduction], NAME, rows
    )
    assert torch.equal(grad, expected_grad)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_misaligned_tensors(target):
    """Kernels for misaligned tensors load and store one element at a time: the checker would report
    a wide access."""

    def misaligned():
        return [torch.empty(4 * 72 + 1)[1:].view(4, 72)]

    x = data((4 * 72 + 1,), torch.float32)[1:].view(4, 72)
    for a, b in as_compiled(target, "perturb", misaligned, x, 0.7, 0.3, NAME):
        assert torch.equal(a, b)
    for tensor, elements in ((x, 1), (x.clone(), 4)):
        with compiling(target) as launches:
            pyebm.kernels.OPS["normal_"](tensor, NAME)
        assert elements == launches[0].arguments["TILE"].UNIT


def test_scale(target):
    grad = data((4, 72), torch.float32)
    for above in (torch.tensor(1.0), torch.tensor(2.5), torch.linspace(0, 1, 4)):
        for a, b in as_compiled(target, "scale_", lambda: [grad.clone()], above):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("shape", "counts"), [((2, 3, 24), (6, 2)), ((2, 3, 17), (6, 102)), ((2, 24), (48, 2))], ids=str
)
def test_coefficients_that_change_within_a_sample(target, shape, counts):
    with compiling(target, execute):
        assert_the_references_bits(pyebm.kernels.OPS, data(shape, torch.float32), *counts)


def _strided():
    base = data((3, 8, 4, 12), torch.float32)
    yield "channels last", base.contiguous(memory_format=torch.channels_last)
    yield "transposed", base.transpose(1, 3)
    yield "every other row", base[:, :, ::2]
    yield "cut rows", base.flatten(1)[:, :157]


@pytest.mark.parametrize("x", [pytest.param(x, id=name) for name, x in _strided()])
def test_other_strides(target, x):
    """Tensors are read and written where they lie; the mask is expanded, the score has strides of
    its own."""
    score, mask = x.contiguous(), (x[:, :1] > 0).expand_as(x)
    numbers = (0.1, 0.5, NAME, None, None, None, mask)
    with compiling(target, execute) as launches:
        ours = torch.empty_like(x)
        pyebm.kernels.OPS["langevin_step"](ours, x, score, *numbers)
    assert launches[-1].arguments["x"].data_ptr() == x.data_ptr()
    theirs = torch.empty_like(x)
    reference.OPS["langevin_step"](theirs, x, score, *numbers, *[None] * 5)
    assert ours.stride() == theirs.stride()
    assert torch.equal(ours, theirs)
