"""The table's other side: whatever PyTorch does to a function, as a check of one call. A check that fails raises."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import processes
import torch
from calls import CALLS, NOISE, PARTS, Call, Exported, Model, Parts, samples
from cases import assert_equal
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, vmap
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.checkpoint import checkpoint

Check = Callable[[Call], None]
COLUMNS: dict[str, Check] = {}


def column(name: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        COLUMNS[name] = check
        return check

    return register


def is_constant(call: Call, x: Tensor) -> None:
    """No graph comes out, and what else depends on x keeps its gradient."""
    leaf = x.clone().requires_grad_()
    made = call(leaf)
    assert not made.requires_grad
    assert_equal(made, call(x))
    assert_equal(torch.func.grad(lambda x: call(x).sum() + x.sum())(x), torch.ones_like(x))


@column("grad")
def _grad(call: Call) -> None:
    """Reverse mode: the value has the bits that it has without, and the gradient is that of finite differences.

    A constant has no graph, and whatever else depends on x keeps its gradient.
    """
    x = samples(torch.float64, batch=2)
    if call.constant:
        return is_constant(call, x)
    assert_equal(call(x.clone().requires_grad_()).detach(), call(x).detach())
    assert gradcheck(call, x.requires_grad_())
    return None


@column("grad of grad")
def _grad_of_grad(call: Call) -> None:
    """The same of the gradient, by reverse mode over reverse mode and by forward over reverse."""
    x = samples(torch.float64, batch=2)
    if call.constant:
        return is_constant(call, x)
    assert gradgradcheck(call, x.requires_grad_(), check_fwd_over_rev=True)
    return None


@column("jvp")
def _jvp(call: Call) -> None:
    """`torch.func.jvp`: the value's bits, and the tangent that reverse mode says; a constant's is zero."""
    x, v = samples(torch.float64), samples(torch.float64, seed=1)
    value, tangent = torch.func.jvp(call, (x,), (v,))
    assert_equal(value.detach(), call(x).detach())
    if call.constant:
        assert not tangent.any()
    else:
        twin = CALLS["langevin_step"] if call.in_place else call
        jacobian = torch.autograd.functional.jacobian(twin, x)
        torch.testing.assert_close(tangent.detach(), (jacobian * v).sum((-1, -2)))


@column("vmap")
def _vmap(call: Call) -> None:
    """`torch.vmap` has the bits of the loop: a Noise names what it names there."""
    x = torch.stack([samples(seed=k) for k in range(3)])
    assert_equal(vmap(call)(x), torch.stack([call(one) for one in x]))


@column("vmap of grad")
def _vmap_of_grad(call: Call) -> None:
    """`torch.vmap(torch.func.grad(...))` has the bits of the loop."""
    x = torch.stack([samples(torch.float64, seed=k) for k in range(3)])
    one = torch.func.grad(lambda x: call(x).square().sum())
    assert_equal(vmap(one)(x), torch.stack([one(each) for each in x]))


@column("compile")
def _compile(call: Call) -> None:
    """`torch.compile(fullgraph=True)`: eager's bits, gradients too; another name compiles nothing anew."""
    x = samples()
    compiled, compiles = _compiled(call)
    for step in (2, 5):
        assert_equal(compiled(x, NOISE.at(step=step)).detach(), call.run(x, NOISE.at(step=step), PARTS).detach())
    assert compiles.frame_count <= 2
    if not (call.constant or call.in_place):
        leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        compiled(leaf, NOISE).sum().backward()
        call(other).sum().backward()
        assert_equal(leaf.grad, other.grad)


@column("compile, dynamic")
def _compile_dynamic(call: Call) -> None:
    """With `dynamic=True`: eager's bits for batches of 4, 6 and 7, compiled at most twice."""
    compiled, compiles = _compiled(call, dynamic=True)
    for batch in (4, 6, 7):
        x = samples(batch=batch)
        assert_equal(compiled(x, NOISE).detach(), call(x).detach())
    assert compiles.frame_count <= 2


def _compiled(call: Call, **options: bool) -> tuple[Callable[..., Tensor], CompileCounterWithBackend]:
    torch._dynamo.reset()
    compiles = CompileCounterWithBackend("eager")

    def run(x: Tensor, noise: object) -> Tensor:
        return call.run(x, noise, PARTS)

    return torch.compile(run, fullgraph=True, backend=compiles, **options), compiles


@column("export")
def _export(call: Call) -> None:
    """`torch.export.export(strict=False)`: the program has eager's bits for another input."""
    _exported(call, strict=False)


@column("export, strict")
def _export_strict(call: Call) -> None:
    """The same with `strict=True`."""
    _exported(call, strict=True)


def _exported(call: Call, strict: bool) -> None:
    with torch.no_grad():
        program = torch.export.export(Exported(call), (samples(),), strict=strict).module()
    other = samples(seed=1)
    assert_equal(program(other).detach(), call(other).detach())


@column("inference_mode")
def _inference_mode(call: Call) -> None:
    """Under `torch.inference_mode()`, objects made outside and inside: the same bits."""
    want = call(samples()).detach()
    with torch.inference_mode():
        assert_equal(call(samples()), want)
        assert_equal(call.run(samples(), NOISE, Parts()), want)


@column("meta")
def _meta(call: Call) -> None:
    """Objects and x on the meta device: shapes, dtypes and strides are right, and after `to_empty` and
    `load_state_dict` the objects give the same bits.
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


@column("autocast")
def _autocast(call: Call) -> None:
    """Under `torch.autocast`: x's dtype, and the bits that come without it."""
    want = [call(samples(dtype)).detach() for dtype in (torch.float32, torch.bfloat16)]
    with torch.autocast("cpu", torch.bfloat16):
        got = [call(samples(dtype)).detach() for dtype in (torch.float32, torch.bfloat16)]
    for one, other in zip(got, want, strict=True):
        assert_equal(one, other)


@column("default dtype")
def _default_dtype(call: Call) -> None:
    """Under `torch.set_default_dtype(torch.float64)`: the same bits."""
    want = call(samples()).detach()
    torch.set_default_dtype(torch.float64)
    try:
        got = [call.run(samples(), type(NOISE)(3, step=2), parts) for parts in (PARTS, Parts())]
    finally:
        torch.set_default_dtype(torch.float32)
    assert_equal(got[0].detach(), want)
    torch.testing.assert_close(got[1].detach(), want)  # numbers that were given in float64, such as a scale of 0.7


@column("default device")
def _default_device(call: Call) -> None:
    """Under `torch.set_default_device`: CPU tensors give the same bits, names made there among them."""
    x, want = samples(), call(samples()).detach()
    torch.set_default_device("meta")
    try:
        parts = Parts().to_empty(device="cpu")
        parts.load_state_dict(PARTS.state_dict())
        got = call.run(x, type(NOISE)(3, step=2), parts).detach()
    finally:
        torch.set_default_device(None)
    assert_equal(got, want)


@column("deterministic")
def _deterministic(call: Call) -> None:
    """Under `torch.use_deterministic_algorithms(True)`, which fills new memory with NaN: the same bits."""
    want = call(samples()).detach()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(5).isnan().all()
        assert_equal(call(samples()).detach(), want)
    finally:
        torch.use_deterministic_algorithms(False)


@column("deepcopy")
def _deepcopy(call: Call) -> None:
    """Copies of objects that have been used give the same bits, and keep their type."""
    _copied(call, copy.deepcopy)


@column("pickle")
def _pickle(call: Call) -> None:
    """So do their pickles."""
    _copied(call, lambda value: pickle.loads(pickle.dumps(value)))


def _copied(call: Call, how: Callable[[object], object]) -> None:
    """Used before, the copy being used after the original is gone."""
    parts, noise = Parts(), NOISE.at()
    want = call.run(samples(), noise, parts).detach()
    parts, noise = how((parts, noise))
    assert type(noise) is type(NOISE)
    assert_equal(call.run(samples(), noise, parts).detach(), want)


@column("checkpoint, reentrant")
def _checkpoint_reentrant(call: Call) -> None:
    """`torch.utils.checkpoint(use_reentrant=True)` inside a network: the same value and gradients."""
    _checkpointed(call, use_reentrant=True)


@column("checkpoint")
def _checkpoint(call: Call) -> None:
    """The same with `use_reentrant=False`."""
    _checkpointed(call, use_reentrant=False)


def _checkpointed(call: Call, use_reentrant: bool) -> None:
    """In the middle of a network, so that gradients go through it."""
    model = Model(call)

    def gradients(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        x = samples().requires_grad_()
        model.zero_grad()
        value = run(x)
        value.backward()
        return [value.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]

    again = gradients(lambda x: checkpoint(model, x, use_reentrant=use_reentrant))
    for got, want in zip(again, gradients(model), strict=True):
        assert_equal(got, want)


@column("functional_call")
def _functional_call(call: Call) -> None:
    """`torch.func.functional_call` with other weights and target's numbers: those of a module that has them."""
    model, other = Model(call), Model(call)
    with torch.no_grad():
        for value in (*other.net.parameters(), other.parts.well.barrier):
            value.mul_(1.5)
    state = {name: value.detach() for name, value in (*other.named_parameters(), *other.named_buffers())}
    x = samples()
    before, want = model(x).detach(), other(x)
    assert_equal(functional_call(model, state, (x,)).detach(), want.detach())

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return functional_call(model, {**state, **weights}, (x,))

    weights = {name: state[name] for name, _ in model.named_parameters()}
    want.backward()
    for name, gradient in torch.func.grad(loss)(weights).items():
        torch.testing.assert_close(gradient, other.get_parameter(name).grad)
    assert_equal(model(x).detach(), before)


class Named(torch.Tensor):
    """A subclass without operations of its own, as those of image packages are."""


@column("subclass")
def _subclass(call: Call) -> None:
    """A Parameter, and a subclass without operations of its own: the same bits."""
    want = call(samples()).detach()
    assert_equal(call(samples().as_subclass(Named)).detach().as_subclass(torch.Tensor), want)
    with torch.no_grad():
        assert_equal(call(torch.nn.Parameter(samples())).detach(), want)


@column("subclass that dispatches")
def _dispatching_subclass(call: Call) -> None:
    """A subclass with a `__torch_dispatch__` of its own: each of its tensors gives the same bits."""
    got = call(TwoTensor(samples(), samples()))
    assert isinstance(got, TwoTensor)
    assert_equal(got.a.detach(), call(samples()).detach())


@column("DDP")
def _ddp(call: Call) -> None:
    """Two gloo processes with half of the samples each: the gradients of one process that has all of them, and the bits of
    their own samples' results.
    """
    processes.of_two("DDP", call)


@column("FSDP2")
def _fsdp2(call: Call) -> None:
    """The same with `fully_shard`."""
    processes.of_two("FSDP2", call)


@column("DTensor")
def _dtensor(call: Call) -> None:
    """Sharded by samples over two processes, evenly or not: the bits of the whole, losses and gradients within rounding."""
    processes.of_two("DTensor", call)


@column("workers, forked")
def _forked(call: Call) -> None:
    """In a data loader's workers, forked after kernels have run, by objects that came there: the same bits."""
    processes.of_workers("fork", call)


@column("workers, spawned")
def _spawned(call: Call) -> None:
    """In spawned workers."""
    processes.of_workers("spawn", call)


@column("threads")
def _threads(call: Call) -> None:
    """In four threads at once: the same bits."""
    want = call(samples()).detach()
    with _switching(), ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: call(samples()).detach(), range(8)):
            assert_equal(got, want)


@contextmanager
def _switching() -> Iterator[None]:
    """Python hands over from thread to thread a thousand times as often."""
    import sys

    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 1000)
    yield
    sys.setswitchinterval(before)
