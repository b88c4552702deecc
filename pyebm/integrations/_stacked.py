"""EDM's random generator with a seed for each sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import check_samples
from .._name import WORD
from .._options import check_dtype, checked_device, checked_flag, checked_int, checked_shape, shown
from ..noise import Noise
from ._seeds import noise_of_seeds


class StackedRandomGenerator:
    """A random generator with a seed for each sample. A sample's numbers are the same in any batch
    and on every device.

    Args:
        device: where the tensors are made, unless a call says otherwise.
        seeds: one per sample, of which the lowest 32 bits count, as in EDM.

    Each call takes the next step of ``noise``, a :class:`pyebm.Noise` of the seeds. Calls take the
    keywords dtype, device, requires_grad, pin_memory and layout (strided), as torch's functions do.
    ``edm_sampler(net, latents, randn_like=rnd.randn_like)``.

    Example:
        >>> import torch
        >>> from pyebm.integrations.edm import StackedRandomGenerator
        >>> latents = StackedRandomGenerator("cpu", [7, 8, 9]).randn([3, 1, 4, 4])
        >>> torch.equal(latents[1:], StackedRandomGenerator("cpu", [8, 9]).randn([2, 1, 4, 4]))
        True
    """

    device: torch.device
    noise: Noise

    def __init__(self, device: torch.device | str, seeds: Sequence[int] | Tensor) -> None:
        self.device = checked_device("StackedRandomGenerator", device)
        self.noise = noise_of_seeds("StackedRandomGenerator", "seeds", seeds, bits=32)
        named = self.noise.seed
        assert isinstance(named, Tensor)
        self._seeds: list[int] = named.tolist()
        self._step = 0

    @property
    def generators(self) -> list[torch.Generator]:
        """A torch.Generator of each seed, as EDM's class has them. The methods here don't draw from
        them."""
        return [torch.Generator(self.device).manual_seed(seed) for seed in self._seeds]

    def randn(self, size: Sequence[int], *, dtype: torch.dtype = torch.float32, **kwargs: Any) -> Tensor:
        """Normals of the shape ``size``, whose first number counts samples."""
        check_dtype("StackedRandomGenerator.randn", dtype)
        device, finish = self._options("randn", kwargs)
        return finish(self._next().randn(self._sizes("randn", size), dtype=dtype, device=device))

    def randn_like(self, input: Tensor) -> Tensor:
        """Normals like input; in float64 the float32 numbers, widened."""
        check_samples("StackedRandomGenerator.randn_like", "input", input)
        self._sizes("randn_like", tuple(input.shape), "input")
        return self._next().randn(tuple(input.shape), dtype=input.dtype, device=input.device)

    def randint(
        self, *args: int, size: Sequence[int], dtype: torch.dtype | None = None, **kwargs: Any
    ) -> Tensor:
        """Integers in [low, high), as ``randint(high, size=...)`` or
        ``randint(low, high, size=...)``, in int64 or the dtype given, which must hold them."""
        call = "StackedRandomGenerator.randint"
        if len(args) not in (1, 2):
            raise TypeError(f"{call}: low, high or high alone must be given, got {len(args)} numbers")
        low, high = (
            checked_int(call, name, value)
            for name, value in zip(("low", "high"), (0, *args)[-2:], strict=True)
        )
        if not -(2**63) <= low < 2**63:
            raise ValueError(f"{call}: low must fit 64 bits, got {shown(low)}")
        if not low < high <= low + WORD:
            raise ValueError(f"{call}: high must be above low={low}, by at most 2**32, got {shown(high)}")
        _check_holds(call, dtype, low, high - 1)
        device, finish = self._options("randint", kwargs)
        # These uniforms are in (0, 1].
        uniform = self._next().rand(self._sizes("randint", size), dtype=torch.float64, device=device)
        drawn = low + (uniform * (high - low)).ceil().long() - 1
        return finish(drawn if dtype is None else drawn.to(dtype))

    def _next(self) -> Noise:
        self._step += 1
        return self.noise.at(step=self._step - 1)

    def _sizes(self, call: str, size: Any, name: str = "size") -> tuple[int, ...]:
        sizes = checked_shape(
            f"StackedRandomGenerator.{call}", name, list(size) if isinstance(size, torch.Size) else size
        )
        if sizes[0] != len(self._seeds):
            raise ValueError(
                f"StackedRandomGenerator.{call}: {name} must begin with {len(self._seeds)}, a sample a seed,"
                f" got {sizes}"
            )
        return sizes

    def _options(self, call: str, given: dict[str, Any]) -> tuple[torch.device, Callable[[Tensor], Tensor]]:
        """The device, and a function that gives the drawn tensor its other properties."""
        call = f"StackedRandomGenerator.{call}"
        unknown = set(given) - {"device", "requires_grad", "pin_memory", "layout"}
        if unknown:
            raise TypeError(f"{call}: {min(unknown)} must not be given, got {shown(given[min(unknown)])}")
        device = given.get("device")
        device = self.device if device is None else checked_device(call, device)
        grad, pin = (
            checked_flag(call, name, given.get(name) or False) for name in ("requires_grad", "pin_memory")
        )
        layout = given.get("layout")
        if layout not in (None, torch.strided):
            raise TypeError(f"{call}: layout must be torch.strided, got {shown(layout)}")

        def finish(drawn: Tensor) -> Tensor:
            return (drawn.pin_memory() if pin else drawn).requires_grad_(grad)

        return device, finish


def _check_holds(call: str, dtype: Any, low: int, high: int) -> None:
    if dtype is None:
        return
    if not isinstance(dtype, torch.dtype) or dtype.is_complex or dtype is torch.bool:
        raise TypeError(f"{call}: dtype must be of ints or floats, got {shown(dtype)}")
    # Floats hold every integer up to 2 / eps.
    least, most = (
        (-2 / torch.finfo(dtype).eps, 2 / torch.finfo(dtype).eps)
        if dtype.is_floating_point
        else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    )
    if not least <= low <= high <= most:
        raise ValueError(f"{call}: dtype must hold {low} to {high}, got {dtype}")
