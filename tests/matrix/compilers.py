"""Columns: what traces a call, or needs its shapes only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from calls import NOISE, PARTS, Call, Exported, Parts, samples
from cases import assert_equal
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend


def compiled(call: Call) -> None:
    """`torch.compile(fullgraph=True)`: eager's bits, gradients too; compiled at most twice for all
    names."""
    x = samples()
    run, compiles = _compiled(call)
    first = 0
    for step in (2, 5, 6, 7):
        noise = NOISE.at(step=step)
        assert_equal(run(x, noise).detach(), call.run(x, noise, PARTS).detach())
        first = first or compiles.frame_count  # torch traces a function that reads a module's buffers twice
    assert compiles.frame_count <= first + 1
    if not (call.constant or call.in_place):
        leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        run(leaf, NOISE).sum().backward()
        call(other).sum().backward()
        assert_equal(leaf.grad, other.grad)


def compile_dynamic(call: Call) -> None:
    """With `dynamic=True`: eager's bits for batches of 4, 6 and 7, compiled at most twice."""
    run, compiles = _compiled(call, dynamic=True)
    for batch in (4, 6, 7):
        x = samples(batch=batch)
        assert_equal(run(x, NOISE).detach(), call(x).detach())
    assert compiles.frame_count <= 2


def _compiled(call: Call, **options: bool) -> tuple[Callable[..., Tensor], CompileCounterWithBackend]:
    torch._dynamo.reset()
    compiles = CompileCounterWithBackend("eager")

    def run(x: Tensor, noise: object) -> Tensor:
        return call.run(x, noise, PARTS)

    return torch.compile(run, fullgraph=True, backend=compiles, **options), compiles


def export(call: Call) -> None:
    """`torch.export.export(strict=False)`: the program has eager's bits for another input."""
    _exported(call, strict=False)


def export_strict(call: Call) -> None:
    """The same with `strict=True`."""
    _exported(call, strict=True)


def _exported(call: Call, strict: bool) -> None:
    with torch.no_grad():
        program = torch.export.export(Exported(call), (samples(),), strict=strict).module()
    other = samples(seed=1)
    assert_equal(program(other).detach(), call(other).detach())


def meta(call: Call) -> None:
    """Objects and x on the meta device: shapes, dtypes and strides are right, and after `to_empty`
    and `load_state_dict` the objects give the same bits.
    """
    with torch.device("meta"):
        parts = Parts()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        got, want = call.run(samples(dtype).to("meta"), NOISE, parts), call(samples(dtype))
        assert got.is_meta
        assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride())
    parts = parts.to_empty(device="cpu")
    parts.load_state_dict(PARTS.state_dict())
    assert_equal(call.run(samples(), NOISE, parts), call(samples()))
