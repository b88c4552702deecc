"""A chain's target, in closed form or a network: its score and its energy."""

from __future__ import annotations

from torch import Tensor

from .._schemas import Density
from .network import network_score
from .targets import target_energy, target_score


def evaluate(
    density: Density, x: Tensor, score: Tensor, energy: Tensor | None = None, constant: float = 0.0
) -> None:
    """Writes the score and, if ``energy`` is given, the energy; a closed form adds ``constant`` to
    the energy."""
    target, params, layout, biases = density
    if layout is not None:
        network_score(score, x, layout, params, biases, energy)
    elif energy is None:
        target_score(score, x, target, params)
    else:
        target_energy(energy, score, x, target, params, constant)
