"""The adapters share this: the source of their normals, and the core's operations for both kinds of
noise.

Noise is a :class:`pyebm.Noise` (regenerated wherever it is needed, never stored) or a tensor of
normals (the caller's own, which repeats a run made without pyebm). A tensor goes through torch
operations with the kernels' arithmetic, rounded once.
"""

from __future__ import annotations

import math
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
            None for a Noise with a fresh seed, drawn from torch's default generator at the first
            draw.
    """

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
    def of(cls, source: Draws | Source) -> Draws:
        """Draws from the source. Draws themselves are returned as they are, so that those who share
        them never get the same draw."""
        return source if isinstance(source, Draws) else cls(source)

    @property
    def is_ours(self) -> bool:
        """Whether each draw is a Noise."""
        return self.source is None or isinstance(self.source, Noise)

    def __call__(self, like: Tensor) -> Any:
        if self.source is None:
            self.source = Noise()
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


def add_noise(x: Tensor, sigma: Coefficient, noise: Normals, alpha: Coefficient = 1.0) -> Tensor:
    """``alpha x + sigma z``, like x; in half precisions computed in float32."""
    if isinstance(noise, Noise):
        return perturb(x, sigma, noise, alpha=alpha)
    work = check_normals("add_noise", noise, x)
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
    """``clamp((a x + b g) + c z)``, like x."""
    if not isinstance(noise, Noise):
        return _composed(x, g, a, b, c, noise, clamp)[0]
    stepped = affine_step(x, g, a, b, c, noise, clamp=clamp)
    assert isinstance(stepped, Tensor)
    return stepped


def step_and_mean(
    x: Tensor, g: Tensor, a: Coefficient, b: Coefficient, c: Coefficient, noise: Normals
) -> tuple[Tensor, Tensor]:
    """``(a x + b g) + c z``, and the mean ``a x + b g``."""
    if not isinstance(noise, Noise):
        return _composed(x, g, a, b, c, noise, None)
    stepped = affine_step(x, g, a, b, c, noise, return_mean=True)
    assert isinstance(stepped, tuple)
    return stepped


def _composed(
    x: Tensor, g: Tensor, a: Coefficient, b: Coefficient, c: Coefficient, z: Tensor, clamp: Clamp | None
) -> tuple[Tensor, Tensor]:
    """The kernels' arithmetic in torch operations, for the caller's own normals."""
    check_normals("step", z, x)
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


def check_normals(op: str, noise: Tensor, x: Tensor, name: str = "noise") -> torch.dtype:
    """Checks the caller's own normals; returns the dtype that they are computed in."""
    if not isinstance(noise, Tensor):
        raise TypeError(f"{op}: {name} must be a Noise or a tensor, got {type(noise).__name__}")
    check_dense(op, name, noise)
    if noise.dtype not in FLOATS:
        raise TypeError(f"{op}: {name} must be float16, bfloat16, float32 or float64, got {noise.dtype}")
    if noise.shape != x.shape or noise.device != x.device:
        wanted = f"must have the samples' shape {tuple(x.shape)}, on {x.device}"
        raise ValueError(f"{op}: {name} {wanted}, got {tuple(noise.shape)}, on {noise.device}")
    return torch.promote_types(x.dtype, torch.float32)


def _column(value: Coefficient, x: Tensor, work: torch.dtype) -> Any:
    return value.reshape(-1, *[1] * (x.dim() - 1)).to(work) if isinstance(value, Tensor) else value
