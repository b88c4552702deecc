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
    x = samples(torch.float64, batch=2)
    if call.constant:
        return is_constant(call, x)
    assert_equal(call(x.clone().requires_grad_()).detach(), call(x).detach())
    assert gradcheck(call, x.requires_grad_())
    return None


@column("grad of grad")
def _grad_of_grad(call: Call) -> None:
    x = samples(torch.float64, batch=2)
    if call.constant:
        return is_constant(call, x)
    assert gradgradcheck(call, x.requires_grad_(), check_fwd_over_rev=True)
    return None


@column("jvp")
def _jvp(call: Call) -> None:
    """The tangent is reverse mode's. A draw has none, and a call in place has that of its twin."""
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
    x = torch.stack([samples(seed=k) for k in range(3)])
    assert_equal(vmap(call)(x), torch.stack([call(one) for one in x]))


@column("vmap of grad")
def _vmap_of_grad(call: Call) -> None:
    x = torch.stack([samples(torch.float64, seed=k) for k in range(3)])
    one = torch.func.grad(lambda x: call(x).square().sum())
    assert_equal(vmap(one)(x), torch.stack([one(each) for each in x]))


@column("compile")
def _compile(call: Call) -> None:
    """Also with another name, and with a gradient, for which a training step is compiled of its own."""
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
    _exported(call, strict=False)


@column("export, strict")
def _export_strict(call: Call) -> None:
    _exported(call, strict=True)


def _exported(call: Call, strict: bool) -> None:
    with torch.no_grad():
        program = torch.export.export(Exported(call), (samples(),), strict=strict).module()
    other = samples(seed=1)
    assert_equal(program(other).detach(), call(other).detach())


@column("inference_mode")
def _inference_mode(call: Call) -> None:
    want = call(samples()).detach()
    with torch.inference_mode():
        assert_equal(call(samples()), want)
        assert_equal(call.run(samples(), NOISE, Parts()), want)


@column("meta")
def _meta(call: Call) -> None:
    """On the meta device shapes and dtypes come out; a module made there takes its numbers from a state dict."""
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
    """The dtype is x's, and the numbers are those without it."""
    want = [call(samples(dtype)).detach() for dtype in (torch.float32, torch.bfloat16)]
    with torch.autocast("cpu", torch.bfloat16):
        got = [call(samples(dtype)).detach() for dtype in (torch.float32, torch.bfloat16)]
    for one, other in zip(got, want, strict=True):
        assert_equal(one, other)


@column("default dtype")
def _default_dtype(call: Call) -> None:
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
    """CPU tensors are worked on as ever; what is made of numbers alone is not made there, a module apart."""
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
    """Where torch also fills new memory with NaN, so that what isn't written shows."""
    want = call(samples()).detach()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(5).isnan().all()
        assert_equal(call(samples()).detach(), want)
    finally:
        torch.use_deterministic_algorithms(False)


@column("deepcopy")
def _deepcopy(call: Call) -> None:
    _copied(call, copy.deepcopy)


@column("pickle")
def _pickle(call: Call) -> None:
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
    _checkpointed(call, use_reentrant=True)


@column("checkpoint")
def _checkpoint(call: Call) -> None:
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
    """With other weights and other numbers in the targets: the values, and the gradients of the weights."""
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


@column("tensor subclass")
def _subclass(call: Call) -> None:
    want = call(samples()).detach()
    assert_equal(call(samples().as_subclass(Named)).detach().as_subclass(torch.Tensor), want)
    with torch.no_grad():
        assert_equal(call(torch.nn.Parameter(samples())).detach(), want)


@column("tensor subclass that dispatches")
def _dispatching_subclass(call: Call) -> None:
    got = call(TwoTensor(samples(), samples()))
    assert isinstance(got, TwoTensor)
    assert_equal(got.a.detach(), call(samples()).detach())


for _name in processes.GLOO:
    COLUMNS[_name] = lambda call, name=_name: processes.of_two(name, call)


@column("workers, forked")
def _forked(call: Call) -> None:
    processes.of_workers("fork", call)


@column("workers, spawned")
def _spawned(call: Call) -> None:
    processes.of_workers("spawn", call)


@column("threads")
def _threads(call: Call) -> None:
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
