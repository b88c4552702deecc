"""Uses of a Noise beside the one that it names, on streams that nobody counts up to.

A sampler takes its noise's stream and a few after it. What an objective or a buffer draws must meet
neither those nor the perturbation that the same Noise names, so it flips some of the stream's
highest bits.
"""

from __future__ import annotations

from .noise import Noise

PROJECTIONS, LEVELS, CHAINS, CHOICE, FRESH, START = (use << 28 for use in range(8, 14))


def beside(noise: Noise, use: int) -> Noise:
    """The noise for one of the uses above."""
    return noise.at(stream=noise.stream ^ use)
