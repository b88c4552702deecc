"""The adapters share this: the source of their normals, and the core's operations for both kinds of
noise.

Noise is a :class:`pyebm.Noise` (regenerated wherever it is needed, never stored) or a tensor of
normals (the caller's own, which repeats a run made without pyebm). A tensor goes through torch
operations with the kernels' arithmetic, rounded once.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .. import _ops
from .._checks import Coefficient
from .._clamps import Clamp
from .._composed import affine_update
from .._derivatives import inside
from .._memory import empty_like
from .._name import WORD
from .._options import FLOATS
from ..langevin import affine_step
from ..losses import denoising_loss
from ..noise import Noise
from ..perturb import perturb
from ._fits import broadcast, fitted, norms

Normals = Noise | Tensor
Source = Noise | Callable[[Tensor], Tensor] | None
UNUSED = Noise(0)  # for steps in which the coefficient of z is 0


class Draws:
    """An adapter's normals, one draw after another.

    Args:
        source: a Noise, whose step plus k names the k-th draw; a function of a tensor that returns
            normals like it, such as ``torch.randn_like``, for the bits of a run without pyebm; or
            None for a Noise with a fresh seed at each draw, which torch's default generator gives,
            so that torch.manual_seed governs a run as it governs one without pyebm.
    """

    count: int

    def __init__(self, source: Source = None) -> None:
        if not (source is None or isinstance(source, Noise) or callable(source)):
            raise TypeError(
                "noise: must be a Noise, a function such as torch.randn_like, or None, got"
                f" {type(source).__name__}"
            )
        self.source = source
        self.count = 0
        self._walk: tuple[torch.device, Iterator[Noise]] | None = None

    @classmethod
    def shared(cls, source: Draws | Source) -> Draws:
        """Draws for an object that its package makes anew at every step. The objects that are given
        the same Noise (that very one, not its equal) go on in one sequence, so that none of them
        repeats a draw of another."""
        if isinstance(source, Draws):
            return source
        if not isinstance(source, Noise):
            return cls(source)
        key = id(source)
        if key not in _SHARED:
            _SHARED[key] = cls(source.at())  # a copy, so that the entry does not keep source alive
            weakref.finalize(source, _SHARED.pop, key, None)
        return _SHARED[key]

    @property
    def is_ours(self) -> bool:
        """Whether each draw is a Noise."""
        return self.source is None or isinstance(self.source, Noise)

    def __call__(self, like: Tensor) -> Any:
        if self.source is None:
            return Noise()
        if not isinstance(self.source, Noise):
            return self.source(like)
        step = self.source.step + self.count
        if step >= WORD:
            raise ValueError(
                f"noise: steps must stay below 2**32, got step={self.source.step} and {self.count} draws"
                " before this"
            )
        self.count += 1
        if self.count == 1:
            return self.source
        # A walk makes the names of a thousand steps at once, too many for a single draw.
        if self._walk is None or self._walk[0] != like.device:
            self._walk = like.device, self.source.at(step=step)._walk(WORD - step, like)
        return next(self._walk[1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_walk": None}

    def plain(self) -> dict[str, Any]:
        """The source and the count without a class of pyebm, for files that must load without
        it."""
        named = isinstance(self.source, Noise)
        return {
            "noise": self.source.state_dict() if isinstance(self.source, Noise) else None,
            "function": None if named else self.source,
            "count": self.count,
        }

    @classmethod
    def from_plain(cls, state: dict[str, Any]) -> Draws:
        """The draws that :meth:`plain` described."""
        named = state["noise"] is not None
        draws = cls(Noise.from_state_dict(state["noise"]) if named else state["function"])
        draws.count = state["count"]
        return draws


_SHARED: dict[int, Draws] = {}


def add_noise(x: Tensor, sigma: Coefficient, noise: Normals, alpha: Coefficient = 1.0) -> Tensor:
    """``alpha x + sigma z``, like x; in half precisions computed in float32."""
    if isinstance(noise, Noise):
        return perturb(x, sigma, noise, alpha=alpha)
    noise = fitted("add_noise", noise, x)
    work = torch.promote_types(x.dtype, torch.float32)
    mixed: Tensor = _column(alpha, x, work) * x.to(work) + _column(sigma, x, work) * noise.to(work)
    return mixed.to(x.dtype)


def step(
    x: Tensor,
    g: Tensor,
    a: Coefficient,
    b: Coefficient,
    c: Coefficient,
    noise: Normals,
    *,
    clamp: Clamp | None = None,
) -> Tensor:
    """``clamp((a x + b g) + c z)``, of the shape and the dtype that x and g have together."""
    if type(a) is type(b) is type(c) is float and _is_plain(x, g, noise) and _is_ordered(clamp):
        return _launched(x, g, a, b, c, noise, clamp)  # type: ignore[arg-type]
    x, g, noise = _together(x, g, noise)
    if not isinstance(noise, Noise):
        return _composed(x, g, a, b, c, noise, clamp)[0]
    stepped = affine_step(x, g, a, b, c, noise, clamp=clamp)
    assert isinstance(stepped, Tensor)
    return stepped


def _is_plain(x: Tensor, g: Tensor, noise: Normals) -> bool:
    """Whether the kernel takes these as they are, and nothing follows the call. With a small batch
    the public call's checks take longer than the step; the kernel makes its own."""
    return (
        type(x) is type(g) is Tensor
        and type(noise) is Noise
        and not is_compiling()
        and x.is_cpu
        and g.is_cpu
        and x.dtype is g.dtype
        and x.shape == g.shape
        and x.layout is g.layout is torch.strided
        and noise._seeds is noise._ids is None
        and not inside()
        and not (torch.is_grad_enabled() and (x.requires_grad or g.requires_grad))
    )


def _is_ordered(clamp: Clamp | None) -> bool:
    """Whether the clamp is none, or two floats in their order."""
    if clamp is None:
        return True
    return (
        type(clamp) is tuple
        and len(clamp) == 2
        and type(clamp[0]) is type(clamp[1]) is float
        and clamp[0] <= clamp[1]
    )


def _launched(
    x: Tensor, g: Tensor, a: float, b: float, c: float, noise: Noise, clamp: Clamp | None
) -> Tensor:
    noise._check_batch(x.shape[0])
    limits = () if clamp is None else (None, None, None, None, None, *clamp)
    out = empty_like(x)
    _ops.kernels(None, x)["affine_step"](out, x, g, a, b, c, noise._name, *limits)
    return out


def predicted_step(
    x: Tensor,
    output: Tensor,
    of_output: tuple[Coefficient, Coefficient],
    of_x: Coefficient,
    of_x0: Coefficient,
    c: Coefficient,
    noise: Normals,
    *,
    clamp: Clamp | None = None,
) -> tuple[Tensor, Tensor]:
    """x0 = ``clamp(a x + b output)``, with (a, b) = of_output; and what follows from it,
    ``(of_x x + of_x0 x0) + c z``."""
    a, b = of_output
    numbers = (a, b, of_x, of_x0, c)
    if all(type(one) is float for one in numbers) and _is_plain(x, output, noise) and _is_ordered(clamp):
        assert isinstance(noise, Noise)
        noise._check_batch(x.shape[0])
        previous, x0 = empty_like(x), empty_like(x)
        op = _ops.kernels(None, x)["predicted_step"]
        op(previous, x0, x, output, *numbers, noise._name, *(clamp or ()))
        return x0, previous
    x0 = step(x, output, a, b, 0.0, UNUSED, clamp=clamp)
    return x0, step(x, x0, of_x, of_x0, c, noise)


def step_and_mean(
    x: Tensor, g: Tensor, a: Coefficient, b: Coefficient, c: Coefficient, noise: Normals
) -> tuple[Tensor, Tensor]:
    """``(a x + b g) + c z``, and the mean ``a x + b g``."""
    x, g, noise = _together(x, g, noise)
    if not isinstance(noise, Noise):
        return _composed(x, g, a, b, c, noise, None)
    stepped = affine_step(x, g, a, b, c, noise, return_mean=True)
    assert isinstance(stepped, tuple)
    return stepped


def _together(x: Tensor, g: Tensor, noise: Normals) -> tuple[Tensor, Tensor, Normals]:
    """x and g as PyTorch's operators would combine them: x in the wider dtype, and both broadcast.
    The noise was drawn for x; where g is larger, the same normals serve all of it."""
    shape = broadcast("step", "the network's output", g, x)
    if g.dtype is not x.dtype and g.dtype in FLOATS:
        x = x.to(torch.promote_types(x.dtype, g.dtype))
    if g.shape == shape == x.shape:
        return x, g, noise
    if math.prod(shape) > x.numel():
        noise = noise.randn(x.shape, device=x.device) if isinstance(noise, Noise) else noise
    return x.expand(shape), g.expand(shape), noise


def _composed(
    x: Tensor, g: Tensor, a: Coefficient, b: Coefficient, c: Coefficient, z: Tensor, clamp: Clamp | None
) -> tuple[Tensor, Tensor]:
    """The kernels' arithmetic in torch operations, for the caller's own normals."""
    z = fitted("step", z, x)
    a_rows, b_rows, c_rows = (value if isinstance(value, Tensor) else None for value in (a, b, c))
    numbers = tuple(math.nan if isinstance(value, Tensor) else value for value in (a, b, c))
    low, high = clamp or (None, None)
    mean, value = affine_update(x, g, z, numbers, a_rows, b_rows, c_rows, None, low, high)  # type: ignore[arg-type]
    return value.to(x.dtype), mean.to(x.dtype)


def noise_norms(noise: Normals, like: Tensor) -> Tensor:
    """Each sample's ``|z|``, (B,). For a Noise it is the root of the loss of a prediction of 0, so
    that z is not stored."""
    if isinstance(noise, Noise):
        return denoising_loss(like.detach(), noise, kappa=0.0, lam=1.0, reduction="sample").sqrt()
    return norms(noise)


def _column(value: Coefficient, x: Tensor, work: torch.dtype) -> Any:
    return value.reshape(-1, *[1] * (x.dim() - 1)).to(work) if isinstance(value, Tensor) else value
