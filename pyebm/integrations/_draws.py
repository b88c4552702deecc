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

from .._checks import Coefficient, check_dense, check_tensor, checked_number
from .._clamps import Clamp
from .._composed import affine_update
from .._name import WORD, readable
from .._options import FLOATS
from ..langevin import affine_step
from ..losses import denoising_loss
from ..noise import Noise
from ..perturb import perturb

Normals = Noise | Tensor
Source = Noise | Callable[[Tensor], Tensor] | None


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
    x, g, noise = _together(x, g, noise)
    if not isinstance(noise, Noise):
        return _composed(x, g, a, b, c, noise, clamp)[0]
    stepped = affine_step(x, g, a, b, c, noise, clamp=clamp)
    assert isinstance(stepped, Tensor)
    return stepped


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


def broadcast(op: str, name: str, value: Tensor, x: Tensor, x_name: str = "the samples") -> torch.Size:
    """The shape of value and x together. Both have the same number of dimensions: with fewer, a
    value would be one for a channel, or for a column."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    if value.shape == x.shape:
        return x.shape
    try:
        if value.dim() == x.dim():
            shape: torch.Size = torch.broadcast_shapes(value.shape, x.shape)
            return shape
    except RuntimeError:
        pass
    raise ValueError(
        f"{op}: {name} must have the shape of {x_name}, {tuple(x.shape)}, or broadcast with it, got"
        f" {tuple(value.shape)}"
    )


def output_like(op: str, name: str, output: Tensor, x: Tensor) -> Tensor:
    """A network's output, broadcast to x's shape, as it is where a loss subtracts x from it.
    Without it the noise would be regenerated for the output's shape, which is other noise."""
    shape = broadcast(op, name, output, x)
    if shape != x.shape:
        raise ValueError(
            f"{op}: {name} must have the shape of the samples, {tuple(x.shape)}, or broadcast to it, got"
            f" {tuple(output.shape)}"
        )
    return output if output.shape == shape else output.expand(shape)


def widened(x: Tensor, *others: Tensor) -> Tensor:
    """x in the dtype that it has together with the others, as after PyTorch's operators between
    tensors of one dimension or more."""
    dtype = x.dtype
    for other in others:
        dtype = torch.promote_types(dtype, other.dtype)
    return x.to(dtype)


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


def checked_scale(op: str, name: str, value: Coefficient, open_low: bool = False) -> Coefficient:
    """Checks that a number or a tensor is finite and not negative (with open_low: above 0). A
    tensor on a GPU is not checked, since the check would wait for it."""
    if not isinstance(value, Tensor):
        return checked_number(op, name, value, 0.0, open_low)
    check_tensor(op, name, value)
    if value.is_cpu and readable(value):
        fine = (value > 0 if open_low else value >= 0) & (value < math.inf)
        if not bool(fine.all()):
            worst = value[~fine].flatten()[0].item()
            raise ValueError(f"{op}: {name} must be {'>' if open_low else '>='} 0 and finite, got {worst:g}")
    return value


def noise_norms(noise: Normals, like: Tensor) -> Tensor:
    """Each sample's ``|z|``, (B,). For a Noise it is the root of the loss of a prediction of 0, so
    that z is not stored."""
    if isinstance(noise, Noise):
        return denoising_loss(like.detach(), noise, kappa=0.0, lam=1.0, reduction="sample").sqrt()
    return norms(noise)


def norms(x: Tensor) -> Tensor:
    """Each sample's norm, (B,), summed in float32 at least."""
    root: Tensor = torch.linalg.vector_norm(
        x.flatten(1), dim=1, dtype=torch.promote_types(x.dtype, torch.float32)
    )
    return root


def fitted(op: str, noise: Tensor, x: Tensor, name: str = "noise") -> Tensor:
    """The caller's own normals, checked, and broadcast to x's shape."""
    if not isinstance(noise, Tensor):
        raise TypeError(f"{op}: {name} must be a Noise or a tensor, got {type(noise).__name__}")
    check_dense(op, name, noise)
    if noise.shape == x.shape and noise.dtype in FLOATS and noise.device == x.device:
        return noise
    if noise.dtype not in FLOATS:
        raise TypeError(f"{op}: {name} must be float16, bfloat16, float32 or float64, got {noise.dtype}")
    if noise.device == x.device and noise.dim() == x.dim():
        try:
            return noise.expand(x.shape)
        except RuntimeError:
            pass
    wanted = f"must have the samples' shape {tuple(x.shape)} or broadcast to it, on {x.device}"
    raise ValueError(f"{op}: {name} {wanted}, got {tuple(noise.shape)}, on {noise.device}")


def _column(value: Coefficient, x: Tensor, work: torch.dtype) -> Any:
    return value.reshape(-1, *[1] * (x.dim() - 1)).to(work) if isinstance(value, Tensor) else value
