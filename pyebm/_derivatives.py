"""Decides for every public call whether a derivative is wanted, and carries it past the kernel.

A kernel writes numbers into memory: PyTorch sees no operation in it, so neither autograd, nor
forward mode, nor ``torch.vmap`` can follow. A call therefore asks :func:`wanted` before it runs a
kernel. If the answer is yes, the call takes *composed operations*, PyTorch's own, which every
transform follows to any order. :func:`exactly` then gives their result the kernel's value, where
the two differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, is_grad_enabled
from torch._C import _functorch
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from ._name import readable

Kernel = Callable[..., Tensor]


NOTHING, REVERSE, COMPOSED = 0, 1, 2
_level = _functorch.maybe_current_level


def wanted(x: Tensor | None, *others: Tensor | None) -> int:
    """Which derivatives follow a call with these tensors.

    Returns:
        NOTHING, which is false, if none follows; REVERSE if only autograd's reverse mode follows
        and only x is followed, for which a call may have a kernel; COMPOSED if another tensor is
        followed too, or if forward mode or a transform follows any of them.
    """
    grad = is_grad_enabled()
    if grad:
        for tensor in others:
            if tensor is not None and tensor.requires_grad:
                return COMPOSED
    if is_compiling():
        # The read of forward mode's level becomes a guard of the compiled code, which is therefore
        # compiled anew where a tangent comes later.
        if forward_ad._current_level >= 0 or _inside():
            return COMPOSED
    elif (_level() is not None or forward_ad._current_level >= 0) and _transformed(x, *others):
        return COMPOSED
    return REVERSE if grad and x is not None and x.requires_grad else NOTHING


def reverse_alone(*tensors: Tensor | None) -> bool:
    """Whether only autograd's reverse mode follows these tensors, so that a kernel may compute the
    backward pass."""
    if is_compiling() or _level() is not None:
        return False
    return forward_ad._current_level < 0 or not _transformed(*tensors)


def _transformed(*tensors: Tensor | None) -> bool:
    if _level() is None:
        return any(_has_tangent(tensor) for tensor in tensors)
    return any(tensor is not None and _functorch.is_functorch_wrapped_tensor(tensor) for tensor in tensors)


def differentiated_again(grad: Tensor) -> bool:
    """Whether a backward pass is itself followed, or takes a batch of gradients at once
    (``is_grads_batched``)."""
    return is_grad_enabled() or bool(wanted(grad)) or (not is_compiling() and _in_batch(grad))


def _in_batch(grad: Tensor) -> bool:
    return bool(_functorch.is_legacy_batchedtensor(grad))  # autograd's own vmap, which has no level


def only_batched(*tensors: Tensor | None) -> bool:
    """Whether only ``torch.vmap`` follows these tensors, so that a kernel loses no derivative."""
    if is_compiling() or _level() is None or forward_ad._current_level >= 0:
        return False
    for tensor in tensors:
        while tensor is not None and _functorch.is_functorch_wrapped_tensor(tensor):
            if not _functorch.is_batchedtensor(tensor):
                return False
            tensor = _functorch.get_unwrapped(tensor)
        if tensor is not None and tensor.requires_grad and is_grad_enabled():
            return False
    return True


def inside() -> bool:
    """Whether a transform or a level of forward mode is active, whichever tensors it follows."""
    if is_compiling():
        return _inside()
    return _level() is not None or bool(forward_ad._current_level >= 0)


def _inside() -> bool:
    return _level() is not None or bool(forward_ad._current_level >= 0)


# This is torch.compiler.assume_constant_result without the import of the compiler, which takes
# seconds. The result can change during a program, but compiled code may take it for a constant: it
# is guarded by the transforms that were active when it was traced.
_inside._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _has_tangent(tensor: Tensor | None) -> bool:
    return tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None


def plain(op: str, name: str, tensor: Tensor) -> Tensor:
    """The tensor without autograd, as under ``torch.no_grad``, for a call whose result is a
    constant.

    Raises RuntimeError for a tangent, which ``torch.no_grad`` would not stop either, and for a
    batch dimension of vmap.
    """
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _has_tangent(tensor):
            break
        if _functorch.is_batchedtensor(tensor):
            raise RuntimeError(
                f"{op}: {name} must not be a batch of torch.vmap; give all samples as one batch, (B, ...)"
            )
        tensor = _functorch.get_unwrapped(tensor)
    if forward_ad._current_level >= 0 and _has_tangent(tensor):
        raise RuntimeError(
            f"{op}: {name} must not have a forward-mode tangent, which this call would drop; "
            "for derivatives write the loop with pyebm.langevin_step, or use pyebm.langevin_chain"
        )
    return tensor


def checkable(tensor: Tensor) -> bool:
    """Whether the host may look at the numbers: they are on the CPU, and no compiler, tracer or
    vmap hides them."""
    if not tensor.is_cpu or not readable(tensor) or torch._C._len_torch_dispatch_stack():
        return False
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_batchedtensor(tensor):
            return False
        tensor = _functorch.get_unwrapped(tensor)
    return True


class BySample(NamedTuple):
    """A kernel whose samples are independent, so that one launch takes the samples of all entries
    of a vmap batch.

    Attributes:
        kernel: a function; the first dimension of its result and of all its tensors but the shared
            ones counts samples (or parts of samples).
        shared: the positions of the tensors that serve all samples.
    """

    kernel: Callable[..., Tensor]
    shared: tuple[int, ...] = ()

    def __call__(self, *tensors: Tensor | None) -> Tensor:
        return self.kernel(*tensors)

    def folds(self, dims: Sequence[int | None]) -> bool:
        return all(dims[place] is None for place in self.shared)

    def folded(self, count: int, dims: Sequence[int | None], tensors: Sequence[Tensor | None]) -> Tensor:
        def all_of(place: int, tensor: Tensor | None, dim: int | None) -> Tensor | None:
            if tensor is None or place in self.shared:
                return tensor
            batch = tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            return batch.flatten(0, 1).contiguous()

        flat = [all_of(place, *pair) for place, pair in enumerate(zip(tensors, dims, strict=True))]
        made = launched(self, *flat)
        return made.reshape(count, made.shape[0] // count, *made.shape[1:])


def exactly(value: Callable[[], Tensor], composed: Tensor) -> Tensor:
    """``value()`` with the derivatives of ``composed``, which equals it up to rounding.

    In compiled transforms the value is that of ``composed``.
    """
    if is_compiling() and _inside():
        return composed
    of = _Value if is_compiling() else _ValueInBothModes  # torch.compile takes no function that has a jvp
    made: Tensor = of.apply(value(), composed)  # type: ignore[no-untyped-call]
    return made


def launched(kernel: Kernel | BySample, *tensors: Tensor | None) -> Tensor:
    """``kernel(*tensors)`` without derivatives; under vmap one launch for each entry of the batch,
    or one launch for all of them (BySample)."""
    detached = [None if tensor is None else tensor.detach() for tensor in tensors]
    if is_compiling() or _level() is None:
        made: Tensor = kernel(*detached)
        return made
    value: Tensor = _Launch.apply(kernel, *detached)  # type: ignore[no-untyped-call]
    return value


class _Launch(torch.autograd.Function):
    """A kernel in the form that functorch can call: functorch removes its levels and asks ``vmap``
    what to do with a batch dimension."""

    @staticmethod
    def forward(kernel: Any, *tensors: Tensor | None) -> Any:
        return kernel(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)
        ctx.count = len(inputs)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        return (None,) * ctx.count

    @staticmethod
    def jvp(_ctx: Any, *_: Any) -> None:
        return None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], kernel: Any, *tensors: Tensor | None
    ) -> tuple[Tensor, int]:
        if isinstance(kernel, BySample) and kernel.folds(in_dims[1:]) and info.batch_size:
            return kernel.folded(info.batch_size, in_dims[1:], tensors), 0

        def entry(i: int) -> list[Tensor | None]:
            pairs = zip(tensors, in_dims[1:], strict=True)
            return [
                tensor if dim is None or tensor is None else tensor.select(dim, i) for tensor, dim in pairs
            ]

        results = [launched(kernel, *entry(i)) for i in range(info.batch_size)]
        return torch.stack(results), 0


class _Value(torch.autograd.Function):
    """``value``, as a function of ``composed`` with the derivative 1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, _composed: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(*_: Any) -> None:
        pass

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


class _ValueInBothModes(_Value):
    @staticmethod
    def jvp(_ctx: Any, _value: Any, tangent: Tensor) -> Tensor:
        return tangent.clone()
