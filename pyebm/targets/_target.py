"""The base class of all targets. With it a closed-form target needs only an energy and a few
numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .. import _composed, _ops, _schemas
from .._checks import check_samples
from .._derivatives import BySample, exactly, launched, wanted
from .._dtensor import by_samples
from .._kinds import KINDS
from .._memory import empty_like
from .._modes import in_mode
from .._options import check_dtype, checked_count, checked_shape, shown
from ..noise import Noise
from ._kept import Kept, readable
from ._numbers import Numbers
from ._parameters import Parameters


class Target(Parameters):
    """A density ``p(x) = exp(-energy(x)) / Z`` in closed form: all targets' base class.

    Calling a target, ``target(x)``, returns the energy. Its parameters are buffers in float64
    (``.to(device)`` and ``state_dict`` work), rounded once to the dtype that x is computed in
    (float32 for half precisions). An ``nn.Parameter`` is registered as it is, to be learned;
    another tensor that requires grad keeps its graph.

    A subclass registers its parameters (:meth:`_register`), sets ``kind``, its name in the kernels'
    table (_kinds.py), and ``dim``, and defines :meth:`_numbers`, the parameters in the form that
    the kernels take; CONTRIBUTING.md shows one from start to end. A call on what is no batch of its
    samples raises TypeError or ValueError.

    Example:
        >>> import torch, pyebm
        >>> pyebm.targets.DoubleWell()(torch.ones(3, 2))
        tensor([0., 0., 0.])
    """

    kind: str
    dim: int | None = None
    """Elements of a sample, or None where any (B, ...) will do."""
    least_dim: int = 0
    """Fewer elements than this make no sense; a class that sets ``kind`` gets its number."""
    has_energy = True
    """False for a score without an energy, which Metropolis' test can't do without."""
    follows = True
    """Whether a chain's derivatives follow the parameters without being asked to."""

    _kept: dict[torch.dtype, Kept]
    _keeps = True
    """Whether the numbers are a function of the tensors alone. Of a subclass from elsewhere that
    makes its own, nobody knows."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if (kind := _schemas.KINDS.get(vars(cls).get("kind", ""))) is not None:
            cls.least_dim = kind.least
        for name in {"energy", "log_prob"} & vars(cls).keys():
            setattr(cls, name, by_samples(vars(cls)[name], composed=True))
        if not vars(cls).keys().isdisjoint(("_numbers", "_numbers_in")):
            cls._keeps = cls.__module__.startswith(f"{__package__}.")

    def __init__(self) -> None:
        super().__init__()
        self._kept = {}

    def __getstate__(self) -> dict[str, Any]:
        """The state without the kernels' numbers, which copies and pickles make again."""
        return self.__dict__ | {"_kept": {}}

    @partial(by_samples, composed=True)
    def energy(self, x: Tensor) -> Tensor:
        """The energy of each sample, (B,), by torch operations, differentiable; float32 for half
        precisions, else x's dtype.

        Raises TypeError and ValueError for an x that is not a floating-point tensor (B, ...) of
        this target's dimension and device.
        """
        formula = _composed.ENERGIES.get(getattr(self, "kind", ""))
        if formula is None:
            raise NotImplementedError(f"{type(self).__name__}: the energy has no formula of its own")
        params = self._checked(type(self).__name__, x)
        work = _composed.work_of(x).reshape(x.shape[0], _elements(x))
        return formula(work, params, _composed.Torch)

    def forward(self, x: Tensor) -> Tensor:
        return self.energy(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """``log p(x)``, (B,), normalised; differentiable. Raises NotImplementedError where the
        normaliser is not known."""
        raise NotImplementedError(
            f"{type(self).__name__}: log_prob needs the normaliser, which has no closed form; energy is there"
        )

    def sample(
        self,
        n: int | Sequence[int],
        noise: Noise,
        *,
        dtype: torch.dtype = torch.float32,
        backend: str | None = None,
    ) -> Tensor:
        """n exact samples, (n, dim), on the target's device. They are made from the noise, so the
        same Noise gives the same samples.

        A chain that starts from them takes another stream of the noise. n may be a shape (n, ...),
        and must be for a target whose dim is None.

        Raises NotImplementedError where exact sampling does not exist, ValueError for a shape that
        is not the target's.
        """
        raise NotImplementedError(
            f"{type(self).__name__}: there is no exact sampling of it; run a chain, pyebm.langevin_chain"
        )

    @by_samples
    def score(self, x: Tensor, *, backend: str | None = None) -> Tensor:
        """``grad log p(x) = -grad energy(x)`` in closed form, x's shape and dtype; no autograd is
        needed.

        In half precisions the arithmetic is float32, rounded once. Where x (or a buffer) requires
        grad it is composed of torch operations: the same bits (mixtures and full covariances:
        within their bound), and differentiable.

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
        kernel = _ops.kernels(backend, x)["target_score"]

        def launch(x: Tensor, params: Tensor) -> Tensor:
            out = empty_like(x)
            kernel(out, x, self._index, params)
            return out

        if not wanted(x, params):
            return launch(x, params)
        composed = _composed.score_of(x, self._index, params)
        if not _schemas.KINDS[self.kind].dense:
            return composed
        return exactly(lambda: launched(BySample(launch, shared=(1,)), x, params), composed)

    def extra_repr(self) -> str:
        shown = (
            (name, f"{t.item():g}" if t.dim() == 0 and not t.is_meta else f"<{tuple(t.shape)}>")
            for name, t in self._own()
        )
        return ", ".join(f"{name}={value}" for name, value in shown)

    # --- for subclasses ---

    def _numbers(self) -> Tensor:
        """All numbers that the kernels need, flat, in float64, made from the buffers."""
        raise NotImplementedError

    def _numbers_in(self, dtype: torch.dtype) -> Tensor:
        """All numbers that the kernels need, in the dtype of the computation."""
        return self._numbers().to(dtype)

    def _contained(self, dtype: torch.dtype) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
        """A parameter (M, D) whose rows are in the numbers of that dtype unchanged, and a function
        that finds them there; None if there is no such parameter."""
        del dtype
        return None

    def _constant(self, elements: int) -> float:
        """The constant that the kernels leave out of the energy of a sample of so many elements; it
        is added to their result."""
        del elements
        return 0.0

    def _work(self, x: Tensor) -> tuple[Tensor, Callable[[str], Tensor]]:
        """x as (B, elements) in the dtype of the computation, and the parameters, by name, in
        it."""
        self._check(f"{type(self).__name__}", x)
        work = _composed.work_of(x).reshape(x.shape[0], _elements(x))
        return work, lambda name: getattr(self, name).to(work.dtype)

    def _normals(
        self, n: int | Sequence[int], noise: Noise, dtype: torch.dtype, backend: str | None
    ) -> tuple[Tensor, Callable[[str], Tensor], Callable[[Tensor], Tensor]]:
        """For :meth:`sample`: normals (n, elements), a function that gives a parameter by its name,
        and a function that brings a result to its shape and dtype."""
        call = f"{type(self).__name__}.sample"
        if isinstance(n, (tuple, list)):
            shape = checked_shape(call, "n", n)
        elif self.dim is not None:
            shape = (checked_count(call, "n", n), self.dim)
        else:
            raise ValueError(
                f"{call}: n must be a shape (n, ...) for a target of any dimension, got {shown(n)}"
            )
        if not isinstance(noise, Noise):
            raise TypeError(f"{call}: noise must be a Noise, got {type(noise).__name__}")
        check_dtype(call, dtype)
        device, wide = self._tensors()[0].device, torch.float64 if dtype == torch.float64 else torch.float32
        z = noise.randn(shape, dtype=wide, device=device, backend=backend)
        work, of = self._work(z)
        return work, of, lambda made: made.reshape(shape).to(dtype)

    # --- for the calls: checks, and the target in the form that kernels take ---

    @property
    def _index(self) -> int:
        return _schemas.TARGETS.index(self.kind)

    @property
    def _has_energy_kernel(self) -> bool:
        """Whether the kernels know the energy: where it is made of the numbers, or overridden
        together with them."""

        def owner(*names: str) -> type:
            return next(base for base in type(self).__mro__ if any(name in vars(base) for name in names))

        return self.kind in _composed.ENERGIES and owner("energy", "forward") in (
            Target,
            owner("_numbers", "_numbers_in"),
        )

    @property
    def _has_energy_on_gpus(self) -> bool:
        """Whether the GPUs' kernels know such energies: not those of dense targets."""
        return self.kind in KINDS and not KINDS[self.kind].dense

    def _check(self, op: str, x: Tensor) -> list[Tensor]:
        """Checks that x fits the target; returns all parameters and buffers."""
        batch = check_samples(op, "x", x)
        if batch and (self.dim is not None or self.least_dim):
            elements = x.numel() // batch
            if self.dim is not None and elements != self.dim:
                raise ValueError(
                    f"{op}: x must have samples of {self.dim} elements, the target's dimension, got"
                    f" {tuple(x.shape)}"
                )
            if elements < self.least_dim:
                raise ValueError(
                    f"{op}: x must have samples of at least {self.least_dim} elements, got {tuple(x.shape)}"
                )
        tensors = self._tensors()
        if tensors and not (tensors[0].is_cpu and x.is_cpu) and tensors[0].device != x.device:
            raise ValueError(
                f"{op}: x must be on the target's device {tensors[0].device}, got {x.device}; move it with"
                " target.to(x.device)"
            )
        return tensors

    def _checked(self, op: str, x: Tensor) -> Tensor:
        """Checks that x fits; returns the parameters for a kernel that works on x. They are shared
        between calls, so nobody may write to them."""
        tensors = self._check(op, x)
        dtype = torch.float64 if x.dtype is torch.float64 else torch.float32
        if is_compiling():  # comes first, since a read of self._kept would be a guard
            return self._numbers_in(dtype)
        kept = self._kept.get(dtype)
        if kept is not None and x.is_cpu and kept.still(tensors):
            return kept.numbers
        if not self._keeps or not readable(tensors) or wanted(None, *tensors):
            return self._numbers_in(dtype)
        make = partial(Kept, lambda: self._numbers_in(dtype), tensors, self._contained(dtype))
        self._kept[dtype] = kept = in_mode(make, grad=False)
        return kept.numbers

    def _numbers_for(self, call: str, x: Tensor) -> Numbers:
        """Checks that x fits; returns the target in the form that a chain on x takes."""
        return Numbers("langevin_chain", self._index, self._checked(call, x))

    def _has_chain(self, backend: str | None, x: Tensor, limited: bool = False) -> bool:
        """Whether x's device has the target's chain. limited: it has a mask or a score_clip."""
        return not limited or _ops.on_host(backend, x)

    def _has_score_kernel(self, backend: str | None, x: Tensor) -> bool:
        """Whether the kernel computes this target's score, and x's device has that kernel."""
        del backend, x
        return type(self).score is Target.score


def _elements(x: Tensor) -> int:
    return math.prod(x.shape[1:])
