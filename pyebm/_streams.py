"""Further uses of a Noise, on streams far from those that samplers count.

A sampler takes its noise's stream and a few after it. The draws of an objective or a buffer must
meet neither those nor the perturbation that the same Noise names, so their stream has some of the
highest bits flipped.
"""

from __future__ import annotations

from .noise import Noise

PROJECTIONS, LEVELS, CHAINS, CHOICE, FRESH, START, PATH = (use << 28 for use in range(8, 15))


def beside(noise: Noise, use: int) -> Noise:
    """The noise for one of the uses above."""
    return noise.at(stream=noise.stream ^ use)
