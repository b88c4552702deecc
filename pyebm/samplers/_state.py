"""The results of a run: the State, from which the chains can go on, and the Trajectory of kept
states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from .. import diagnostics
from .._checks import check_plain, check_samples, check_tensor
from .._name import readable
from .._options import checked_count, checked_keys, shown
from ..noise import Noise, as_noise
from ._extra import check_extra, check_numbers

_VERSION = 1


@dataclass(frozen=True, eq=False)  # tensors don't compare to one truth
class State:
    """Where a run stands: give it to a sampler in place of x0, and the run goes on with the same
    bits.

    Attributes:
        x: the chains' state (B, ...).
        noise: names the noise of the next step; an int or a torch.Generator as for a sampler's
            ``noise``.
        extra: the tensors that the sampler carries beyond x (a velocity, an adapted step size, a
            mass), by name; empty for a sampler that carries none. A sampler ignores those that only
            another one carries.

    Raises TypeError or ValueError where x is no floating-point tensor (B, ...), or extra has other
    names, kinds or shapes than a sampler leaves.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.samplers import State, UnderdampedLangevin
        >>> sampler = UnderdampedLangevin(torch.neg, 0.5)
        >>> half = sampler(State(torch.zeros(4, 2), pyebm.Noise(0)), 5)
        >>> whole = sampler(State(torch.zeros(4, 2), pyebm.Noise(0)), 10)
        >>> torch.equal(sampler(half, 5).x, whole.x)
        True
    """

    x: Tensor
    noise: Noise
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_samples("State", "x", self.x)
        check_plain("State", "x", self.x)
        check_extra(self.extra, self.x)
        if type(self.noise) is not Noise:
            noise = as_noise("State", self.noise)
            object.__setattr__(self, "noise", noise if type(noise) is Noise else noise.at())

    def state_dict(self) -> dict[str, Any]:
        """A dict of tensors and plain numbers, for ``torch.save``.

        ``not_finite`` counts the infinite and NaN numbers of x and extra, which chains that diverge
        leave there, so that a file which was damaged since is not taken for such a run. On a GPU
        the count waits for the device.
        """
        return {
            "version": _VERSION,
            "x": self.x,
            "noise": self.noise.state_dict(),
            "extra": dict(self.extra),
            "not_finite": _not_finite(self),
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> State:
        """The State that ``state_dict()`` described.

        Raises TypeError or ValueError for a dict that no run can leave: another version, other
        keys, tensors of another kind or shape, a step size or a mass that is not > 0 and finite,
        other infinite or NaN numbers than were saved.
        """
        checked_keys("State", "state", state, ("version", "x", "noise", "extra", "not_finite"), _VERSION)
        made = cls(state["x"], Noise.from_state_dict(state["noise"]), state["extra"])
        check_numbers("State", made.extra)
        saved, found = state["not_finite"], _not_finite(made)
        if found is not None and (type(saved) is not int or saved != found):
            raise ValueError(
                "State: not_finite must be the count of infinite and NaN numbers in x and extra, which is"
                f" {found}, got {shown(saved)}: these are not the numbers that were saved"
            )
        return made


def _not_finite(state: State) -> int | None:
    """None where no numbers can be read: on the meta device, or while code is traced or
    transformed."""
    tensors = (state.x, *state.extra.values())
    if any(
        tensor.is_meta or not readable(tensor) or is_functorch_wrapped_tensor(tensor) for tensor in tensors
    ):
        return None
    return sum(int((~tensor.isfinite()).sum()) for tensor in tensors)


@dataclass(frozen=True, eq=False)  # tensors don't compare to one truth
class Trajectory:
    """The states that a run kept, and its State at the end.

    Attributes:
        states: (n_kept, B, ...), after steps thin, 2 thin, ...
        state: the :class:`State` at the run's end, from which it resumes; ``x`` and ``noise`` are
            short for ``state.x`` and ``state.noise``.
        info: what the sampler reports with each kept state, (n_kept, ...): ``energy`` and
            ``accept_prob`` (n_kept, B) and ``step_size`` for MALA and HMC, ``sigma`` and
            ``step_size`` for annealed sampling. ``acceptance`` (B,) is the share of the whole run's
            proposals that each chain accepted.
        thin: steps between kept states.

    Raises:
        TypeError, ValueError: parts that don't belong together.

    Example:
        >>> import torch, pyebm
        >>> sampler = pyebm.samplers.Langevin(pyebm.targets.DoubleWell(), 0.01)
        >>> run = sampler(torch.zeros(8, 2), 100, noise=pyebm.Noise(0), thin=10)
        >>> run.states.shape, torch.equal(run.x, run.states[-1])
        (torch.Size([10, 8, 2]), True)
    """

    states: Tensor
    state: State
    info: dict[str, Tensor]
    thin: int

    def __post_init__(self) -> None:
        call = "Trajectory"
        if not isinstance(self.state, State):
            raise TypeError(f"{call}: state must be a State, got {type(self.state).__name__}")
        check_samples(call, "states", self.states)
        x = self.state.x
        if self.states.shape[1:] != x.shape or self.states.dtype is not x.dtype:
            got = f"{tuple(self.states.shape)} of {self.states.dtype}"
            raise ValueError(
                f"{call}: states must be (n_kept, *x.shape) of x's dtype, x {tuple(x.shape)} of {x.dtype},"
                f" got {got}"
            )
        if not isinstance(self.info, dict):
            raise TypeError(f"{call}: info must be a dict of tensors, got {type(self.info).__name__}")
        for name, value in self.info.items():
            check_tensor(call, f"info[{shown(name)}]", value)
        object.__setattr__(self, "thin", checked_count(call, "thin", self.thin, 1))

    @property
    def x(self) -> Tensor:
        """The last state, (B, ...)."""
        return self.state.x

    @property
    def noise(self) -> Noise:
        """Names the noise of the next step: ``sampler(trajectory.x, ..., noise=trajectory.noise)``
        goes on."""
        return self.state.noise

    def __len__(self) -> int:
        return len(self.states)

    def to_arviz(self) -> Any:
        """An ``xarray.DataTree`` as ArviZ 1.x takes it: ``x`` in ``posterior`` (chain, draw, ...),
        ``energy``, ``acceptance_rate`` and ``step_size``, where the sampler reports them, in
        ``sample_stats``.

        Raises ImportError where arviz-base is missing: it comes with the extra ``diagnostics``.
        """
        return diagnostics.to_arviz(self.states, self.info)

    def ess(self, **options: Any) -> Tensor:
        """The effective sample size of every element of x over all chains; as
        :func:`pyebm.diagnostics.ess`."""
        return diagnostics.ess(self.states, **options)

    def rhat(self, **options: Any) -> Tensor:
        """R-hat of every element of x; as :func:`pyebm.diagnostics.rhat`."""
        return diagnostics.rhat(self.states, **options)
