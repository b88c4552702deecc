"""Warns of chains that can't move, or don't, if the host can read them without a wait."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from ._run import Run

_SHOWN = 5  # a warning names at most so many chains
_PATIENCE = 50  # steps without a move before a warning


def warn_of_starts(run: Run, energy: Tensor) -> None:
    """Warn of chains that start at an energy of NaN or -infinity, which they never leave. They do
    leave infinity, once a proposal has a finite energy."""
    if not run.may_look or not run.n_steps or math.isfinite(energy.sum().item()):
        return
    stuck = ~(energy > -torch.inf)
    if stuck.any():
        _warn(
            f"{run.call}: the energy at the start is NaN or -infinity for {_chains(run, stuck)}; they will"
            " never move: start them where the energy is finite"
        )


def warn_of_stuck(run: Run, accepted: Tensor, energy: Tensor, done: int) -> None:
    if not run.may_look or done < _PATIENCE:
        return
    still = (accepted == 0) & (energy > -torch.inf)  # warn_of_starts has warned of the others
    if still.any():
        _warn(
            f"{run.call}: nothing was accepted in {done} steps for {_chains(run, still)}; try a smaller"
            " step_size, or start them where the energy and the score are finite"
        )


def _chains(run: Run, chosen: Tensor) -> str:
    """The chosen chains in words, such as "3 of 64 chains (sample ids 0, 7, 9)"."""
    rows = chosen.nonzero().flatten()
    ids = rows + run.noise.first_sample if run.ids is None else run.ids[rows.to(run.ids.device)]
    shown = ", ".join(str(one) for one in ids[:_SHOWN].tolist()) + (", ..." if len(rows) > _SHOWN else "")
    return f"{len(rows)} of {len(chosen)} chains (sample ids {shown})"


def _warn(message: str) -> None:
    """Warn at the line that called the sampler, which is the first one outside of this package and
    of torch's wrapper around its calls."""
    level = next(
        (k for k, name in enumerate(_modules(), 1) if name.partition(".")[0] not in ("pyebm", "torch")), 1
    )
    warnings.warn(message, RuntimeWarning, stacklevel=level)


def _modules() -> Iterator[str]:
    """The names of the modules of this function's callers, beginning with the innermost."""
    frame = sys._getframe(2)
    while frame is not None:
        yield frame.f_globals.get("__name__", "")
        frame = frame.f_back  # type: ignore[assignment]
