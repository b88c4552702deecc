"""The base class of the closed-form targets: what they share, so that one of them is an energy and a few numbers."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from .. import _ops, _schemas, reference
from .._checks import check_samples
from .._dtensor import by_samples
from ..noise import Noise


class Target(nn.Module):
    """A density ``p(x) = exp(-energy(x)) / Z`` in closed form; the base class of all of :mod:`pyebm.targets`.

    Calling one, ``target(x)``, returns the energy. Its parameters are buffers in float64 (``.to(device)`` and ``state_dict`` work),
    rounded once to the dtype that x is computed in (float32 for half precisions).

    A subclass registers buffers (:meth:`_register`), sets ``kind``, its name in the kernels' table, and ``dim``, and defines
    :meth:`energy` and :meth:`_numbers`, the parameters as the kernels take them; docs/targets.md shows one from start to end.
    """

    kind: str
    dim: int | None = None
    """Elements of a sample, or None where any (B, ...) will do."""
    least_dim = 0
    """Fewer elements than this make no sense."""

    # What was made of these buffers at these versions: the numbers as the kernels take them, and the buffers in other dtypes.
    _made: tuple[list[Tensor], list[int], dict[Any, Tensor]] = ([], [], {})

    def energy(self, x: Tensor) -> Tensor:
        """The energy of each sample, (B,), by torch operations, differentiable; float32 for half precisions, else x's dtype.

        Raises TypeError and ValueError for an x that is not a floating-point tensor (B, ...) of this target's dimension and device.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.energy(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """``log p(x)``, (B,), normalised; differentiable. Raises NotImplementedError where the normaliser is not known."""
        raise NotImplementedError(
            f"{type(self).__name__}: log_prob needs the normaliser, which has no closed form; energy is there"
        )

    def sample(
        self, n: int | Sequence[int], noise: Noise, *, dtype: torch.dtype = torch.float32, backend: str | None = None
    ) -> Tensor:
        """n exact samples, (n, dim), on the target's device; made from the noise, so that the same Noise gives them again.

        A chain that starts from them takes another stream of the noise. n may be a shape (n, ...), and must be for a target whose
        dim is None.

        Raises NotImplementedError where exact sampling does not exist, ValueError for a shape that is not the target's.
        """
        raise NotImplementedError(f"{type(self).__name__}: there is no exact sampling of it; run a chain, pyebm.langevin_chain")

    @by_samples
    def score(self, x: Tensor, *, backend: str | None = None) -> Tensor:
        """``grad log p(x) = -grad energy(x)`` in closed form, x's shape and dtype; no autograd is needed.

        In half precisions the arithmetic is float32, rounded once. Where x (or a buffer) requires grad it is composed of torch
        operations: the same bits (mixtures and full covariances: within their bound), and differentiable.

        Args:
            x: (B, ...), float16, bfloat16, float32 or float64; any strides.
            backend: None lets the device decide; or a name from :func:`pyebm.backends`.

        Raises:
            TypeError: x is not a dense real floating-point tensor.
            ValueError: x does not have this target's dimension, or is on another device.
            RuntimeError: the backend is not available here, or lacks the op.

        Example:
            >>> import torch, pyebm
            >>> target, x = pyebm.targets.DoubleWell(), torch.randn(5, 2)
            >>> torch.allclose(target.score(x), pyebm.energy_score(target, x), atol=1e-5)
            True
        """
        params = self._checked(f"{type(self).__name__}.score", x)
        if torch.is_grad_enabled() and (x.requires_grad or params.requires_grad):
            return reference.score_of(x, self._index, params)
        out = torch.empty_like(x)
        _ops.kernels(backend, x)["target_score"](out, x, self._index, params)
        return out

    def extra_repr(self) -> str:
        shown = ((name, f"{b.item():g}" if b.dim() == 0 else f"<{tuple(b.shape)}>") for name, b in self.named_buffers())
        return ", ".join(f"{name}={value}" for name, value in shown)

    # --- for subclasses ---

    def _numbers(self) -> Tensor:
        """Every number the kernels need, flat, in float64, made from the buffers."""
        raise NotImplementedError

    def _numbers_in(self, dtype: torch.dtype) -> Tensor:
        """The same in the dtype of the computation."""
        return self._numbers().to(dtype)

    def _constant(self, elements: int) -> float:
        """What these numbers don't say of the energy of a sample of so many elements: the kernels' is less by that."""
        del elements
        return 0.0

    def _register(
        self, name: str, value: float | Tensor, check: Callable[[Any], Any] | None = None, must: str = "be finite"
    ) -> None:
        """``value`` as the float64 buffer ``name``; all of it finite and, where given, passing the check."""
        if not isinstance(value, (numbers.Real, Tensor)):
            raise TypeError(f"{type(self).__name__}: {name} must be a number or a tensor, got {type(value).__name__}")
        if isinstance(value, Tensor):
            made = value.detach().to(torch.float64, copy=True)
            bad = ~(made.isfinite() if check is None else made.isfinite() & check(made))
            worst = float(made[bad].flatten()[0]) if bad.any() else None
        else:  # no tensor decides, so that targets can be made in compiled code
            made = torch.tensor(float(value), dtype=torch.float64)
            worst = None if math.isfinite(value) and (check is None or check(value)) else float(value)
        if worst is not None:
            raise ValueError(f"{type(self).__name__}: {name} must {must}, got {worst:g}")
        self.register_buffer(name, made)

    def _work(self, x: Tensor) -> tuple[Tensor, Callable[[str], Tensor]]:
        """x as (B, elements) in the dtype of the computation, and the buffers, by name, in it."""
        self._check(f"{type(self).__name__}", x)
        work = reference.work_of(x).reshape(x.shape[0], _elements(x))
        dtype, kept = work.dtype, self._kept()

        def of(name: str) -> Tensor:
            return _once(kept, (name, dtype), lambda: self._buffers[name].to(dtype))  # type: ignore[union-attr]

        return work, of

    def _normals(
        self, n: int | Sequence[int], noise: Noise, dtype: torch.dtype, backend: str | None
    ) -> tuple[Tensor, Callable[[str], Tensor], Callable[[Tensor], Tensor]]:
        """For :meth:`sample`: normals (n, elements), the buffers by name, and what brings a result to its shape and dtype."""
        if isinstance(n, (tuple, list)):
            shape = tuple(n)
        elif self.dim is not None:
            shape = (operator.index(cast(int, n)), self.dim)
        else:
            raise ValueError(f"{type(self).__name__}.sample: n must be a shape (n, ...) for a target of any dimension, got {n!r}")
        device = next(self.buffers()).device
        z = noise.randn(shape, dtype=torch.float64 if dtype == torch.float64 else torch.float32, device=device, backend=backend)
        work, of = self._work(z)
        return work, of, lambda made: made.reshape(shape).to(dtype)

    # --- what calls share ---

    @property
    def _index(self) -> int:
        return _schemas.TARGETS.index(self.kind)

    @property
    def _has_energy_kernel(self) -> bool:
        """Whether the kernels know the energy: not where a subclass has another energy with the same numbers, or the reverse."""

        def owner(*names: str) -> type:
            return next(base for base in type(self).__mro__ if not vars(base).keys().isdisjoint(names))

        return self.kind in reference.ENERGIES and owner("energy", "forward") is owner("_numbers", "_numbers_in")

    def _check(self, op: str, x: Tensor) -> None:
        check_samples(op, "x", x)
        elements = _elements(x)
        if self.dim is not None and elements != self.dim and x.shape[0]:
            raise ValueError(f"{op}: x must have samples of {self.dim} elements, the target's dimension, got {tuple(x.shape)}")
        if elements < self.least_dim and x.shape[0]:
            raise ValueError(f"{op}: x must have samples of at least {self.least_dim} elements, got {tuple(x.shape)}")
        for buffer in self._all_buffers():
            if buffer.device != x.device:
                raise ValueError(
                    f"{op}: x must be on the target's device {buffer.device}, got {x.device}; move it with target.to(x.device)"
                )
            break

    def _checked(self, op: str, x: Tensor) -> Tensor:
        """The parameters for a kernel that works on x, once x is known to fit."""
        self._check(op, x)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        kept = self._kept()
        made = None if kept is None else kept.get(dtype)
        return _once(kept, dtype, lambda: self._numbers_in(dtype)) if made is None else made

    def _all_buffers(self) -> Iterable[Tensor]:
        """``buffers()``, whose walk through modules takes longer than small kernels, where there are no modules inside."""
        return self.buffers() if self._modules else [buffer for buffer in self._buffers.values() if buffer is not None]

    def _kept(self) -> dict[Any, Tensor] | None:
        """What was made of the buffers as they are now, to be added to; None where nothing may be kept."""
        if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
            return None
        buffers, versions = [], []
        for buffer in self._all_buffers():
            if buffer.requires_grad or buffer.is_inference():
                return None
            buffers.append(buffer)
            versions.append(buffer._version)
        seen, seen_versions, kept = self._made
        if versions != seen_versions or not all(map(operator.is_, seen, buffers)):
            kept = {}
            self._made = (buffers, versions, kept)
        return kept


def _once(kept: dict[Any, Tensor] | None, key: Any, make: Callable[[], Tensor]) -> Tensor:
    if kept is None:
        return make()
    made = kept.get(key)
    if made is None:
        made = make()
        # What a tracer or a transform hands out is good inside of it only.
        if type(made) is Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(made):
            kept[key] = made
    return made


def _elements(x: Tensor) -> int:
    return math.prod(x.shape[1:])


def positive(value: Any) -> Any:
    """Of a number or a tensor."""
    return value > 0


def log_integral(energy: Callable[[Tensor], Tensor], reach: float, device: torch.device) -> Tensor:
    """log of the integral of exp(-energy) over [-reach, reach], beyond which nothing is left of it; energy is elementwise.

    The trapezoidal rule, which converges geometrically for analytic functions that vanish at both ends.
    """
    x = torch.linspace(-reach, reach, 20_001, dtype=torch.float64, device=device)
    return torch.logsumexp(-energy(x), 0) + math.log(2 * reach / 20_000)
