"""Memory layouts: with any strides, an element's noise depends on its logical index, and results
keep the input's layout."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal, levels, name_of, normal
from hypothesis import given, settings
from hypothesis import strategies as st

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

NOISE = Noise(1)
SHAPE = (6, 5, 9, 10)  # 450 elements a sample, two samples a chunk; 450 is not a multiple of 4


def filler(x):
    return math.nan if x.is_floating_point() else True


def padded(x, *starts_and_steps):
    """x in the windows (start, step) of a larger tensor that holds NaN (or True) elsewhere."""
    ends = [
        start + (size - 1) * step + 1 for (start, step), size in zip(starts_and_steps, x.shape, strict=True)
    ]
    windows = tuple(
        slice(start, end, step) for (start, step), end in zip(starts_and_steps, ends, strict=True)
    )
    return x.new_full([end + 1 for end in ends], filler(x))[windows].copy_(x)


# Each function gives the same values in other strides.
LAYOUTS = {
    "contiguous": lambda x: x.clone(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "batch last": lambda x: x.movedim(0, 3).contiguous().movedim(3, 0),
    "reversed": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "offset by one": lambda x: x.new_full((x.numel() + 1,), filler(x))[1:].copy_(x.flatten()).view(x.shape),
    "sliced rows": lambda x: padded(x, (1, 2), (0, 1), (0, 1), (0, 1)),
    "sliced inside": lambda x: padded(x, (0, 1), (1, 1), (2, 3), (1, 2)),
}


@pytest.fixture(params=(torch.float32, torch.float64, torch.bfloat16), ids=name_of)
def dtype(request):
    """One dtype of each width."""
    return request.param


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


@pytest.fixture(params=["alike", "sliced"])
def other(request, layout):
    """The layout of the other operands."""
    return layout if request.param == "alike" else LAYOUTS["sliced inside"]


def operands(dtype, device, layout, other):
    """Returns (x, y) contiguous, and the same values in these layouts."""
    first, second = (
        normal(*SHAPE, dtype=dtype, device=device),
        normal(*SHAPE, dtype=dtype, device=device, seed=1),
    )
    return first, second, layout(first), other(second)


def test_perturb(backend, device, dtype, layout):
    first, _, x, _ = operands(dtype, device, layout, layout)
    got = pyebm.perturb(x, levels(6, device), NOISE, backend=backend)
    assert_equal(got, pyebm.perturb(first, levels(6, device), NOISE, backend=backend))
    assert got.stride() == torch.empty_like(x).stride()


def test_steps(backend, device, dtype, layout, other):
    first, second, x, score = operands(dtype, device, layout, other)
    mask = normal(*SHAPE, device=device, seed=2) > 0
    eta = levels(6, device)
    for chosen, strided in (
        ({}, {}),
        ({"mask": mask, "clamp": (-1, 1)}, {"mask": other(mask), "clamp": (-1, 1)}),
    ):
        want = pyebm.langevin_step(first, second, eta, NOISE, return_mean=True, backend=backend, **chosen)
        got = pyebm.langevin_step(x, score, eta, NOISE, return_mean=True, backend=backend, **strided)
        assert_equal(got, want)
        assert got[0].stride() == got[1].stride() == torch.empty_like(x).stride()
        in_place = layout(first)
        pyebm.langevin_step_(in_place, score, eta, NOISE, backend=backend, **strided)
        assert_equal(in_place, want[0])
        assert in_place.stride() == x.stride()


def test_losses(backend, device, dtype, layout, other):
    first, second, pred, x0 = operands(dtype, device, layout, other)
    z = normal(*SHAPE, dtype=dtype, device=device, seed=3)

    def loss_and_gradient(pred, noise, x0, reduction, arranged):
        pred = pred.detach().requires_grad_()
        loss = pyebm.denoising_loss(
            pred, noise, mu=0.5, x0=x0, weight=levels(6, device), reduction=reduction, backend=backend
        )
        above = normal(*loss.shape, dtype=loss.dtype, device=device, seed=4)
        (gradient,) = torch.autograd.grad(loss, pred, arranged(above))
        assert gradient.stride() == torch.empty_like(pred).stride()
        return loss.detach(), gradient

    for noise, strided in ((NOISE, NOISE), (z, other(z))):
        for reduction, arranged in (("none", layout), ("sample", torch.clone)):
            want = loss_and_gradient(first, noise, second, reduction, torch.clone)
            assert_equal(loss_and_gradient(pred, strided, x0, reduction, arranged), want)


def test_threads_and_strides(backend, device, threads, layout):
    """Threads write side by side into one strided tensor."""
    x = normal(30, 3, 32, 33, device=device)  # 95,040 elements
    want = pyebm.langevin_step(x, -x, 0.1, NOISE, return_mean=True, backend=backend)
    assert torch.get_num_threads() == threads
    strided = layout(x)
    assert_equal(
        pyebm.langevin_step(strided, layout(-x), 0.1, NOISE, return_mean=True, backend=backend), want
    )
    assert_equal(pyebm.langevin_step_(strided, layout(-x), 0.1, NOISE, backend=backend), want[0])


def test_a_mask_broadcasts(backend, device):
    x, mask = normal(*SHAPE, device=device), normal(*SHAPE, device=device, seed=2) > 0
    for small in (mask[:, :1, :1, :1], mask[:1], mask[0, 0], mask[0, 0, :, :1]):
        got = pyebm.langevin_step(x, -x, 0.1, NOISE, mask=small, backend=backend)
        assert_equal(
            got,
            pyebm.langevin_step(x, -x, 0.1, NOISE, mask=small.expand(SHAPE).contiguous(), backend=backend),
        )


def test_expanded_inputs_are_read(backend, device, dtype):
    """A tensor that is only read may have stride 0."""
    x = normal(6, 1, 9, 1, dtype=dtype, device=device).expand(SHAPE)
    score = normal(1, 5, 1, 10, dtype=dtype, device=device).expand(SHAPE)
    step = pyebm.langevin_step(x, score, 0.1, NOISE, backend=backend)
    assert_equal(step, pyebm.langevin_step(x.contiguous(), score.contiguous(), 0.1, NOISE, backend=backend))
    assert_equal(
        pyebm.perturb(x, 0.1, NOISE, backend=backend),
        pyebm.perturb(x.contiguous(), 0.1, NOISE, backend=backend),
    )
    loss = pyebm.denoising_loss(x, score, reduction="none", backend=backend)
    assert_equal(
        loss, pyebm.denoising_loss(x.contiguous(), score.contiguous(), reduction="none", backend=backend)
    )


def test_an_expanded_gradient_is_read(backend, device):
    """loss.sum() hands back a gradient of stride 0."""
    pred = normal(*SHAPE, device=device, grad=True)
    (got,) = torch.autograd.grad(
        pyebm.denoising_loss(pred, NOISE, reduction="none", backend=backend).sum(), pred
    )
    (want,) = torch.autograd.grad(pyebm.denoising_loss(pred, NOISE, reduction="sum", backend=backend), pred)
    assert_equal(got, want)


def test_in_place_touches_nothing_between_the_slices(backend, device, dtype):
    memory = normal(7, 40, 6, dtype=dtype, device=device)
    x, before = memory[1:6, 3::3, 1:5:2], memory.clone()
    want = pyebm.langevin_step(x.contiguous(), x.contiguous(), 0.1, NOISE, backend=backend)
    pyebm.langevin_step_(x, x.clone(), 0.1, NOISE, backend=backend)
    before[1:6, 3::3, 1:5:2] = want
    assert_equal(memory, before)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_any_strides(data):
    """State, score and mask each have any permutation of any slicing of any small shape."""
    shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=5).map(tuple))
    plain = normal(*shape), normal(*shape, seed=1), normal(*shape, seed=2)

    def rearranged(x):
        order = data.draw(st.permutations(range(x.dim())))
        steps = [(data.draw(st.integers(0, 2)), data.draw(st.integers(1, 3))) for _ in order]
        return padded(x.permute(order), *steps).permute([order.index(d) for d in range(x.dim())])

    x, score, mask = map(rearranged, plain)
    want = pyebm.langevin_step(plain[0], plain[1], 0.1, NOISE, mask=plain[2] > 0, backend="reference")
    pyebm.langevin_step_(x, score, 0.1, NOISE, mask=mask > 0)
    assert_equal(x, want)
