"""The log of the integral of exp(-energy) over one element, for the energies whose integral has no
closed form.

It uses the trapezoidal rule between points beyond which the integrand is 0 in float64. The rule
converges geometrically for analytic functions that vanish at both ends.
"""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction

import torch
from torch import Tensor

from .._derivatives import wanted

_NOTHING_LEFT = 745.0  # exp(-745) is below float64's smallest number
_NODES = 20_001


def double_well(barrier: Tensor) -> Tensor:
    """The log integral for ``barrier (u^2 - 1)^2``, with barrier in float64. The code reads no
    number, so it works on meta tensors and under transforms."""
    fixed = barrier.detach()
    reach = (_NOTHING_LEFT / fixed).sqrt()  # the integrand is 0 where |u^2 - 1| > reach
    grid = torch.linspace(0, 1, _NODES, dtype=torch.float64, device=barrier.device)
    # If the integrand is 0 between the two wells, integrate one well, in d = u - 1, which float64
    # resolves however narrow the well is.
    left, right = reach / (1 + (1 - reach).clamp(min=0).sqrt()), reach / (1 + (1 + reach).sqrt())
    d = (left + right) * grid - left
    # Else integrate both wells together.
    whole = (1 + reach).sqrt()
    u = whole * (2 * grid - 1)
    apart = reach < 1
    height = torch.where(apart, d * (2 + d), u.square() - 1)
    width = torch.where(apart, left + right, whole)  # the interval of one well, or half that of both
    return torch.logsumexp(-(barrier.sqrt() * height).square(), 0) + (2 * width / (_NODES - 1)).log()


def polynomial(coefficients: Tensor) -> Tensor:
    """The log integral for ``sum_k c_k x^k``, with c a float64 (n + 1,). Raises ValueError if it
    can't be computed to float64's precision."""
    if coefficients.is_meta:
        return coefficients.new_empty(())
    value, lows, spans = _integrated(tuple(coefficients.tolist()))
    constant = coefficients.new_tensor(value)
    if not wanted(coefficients):
        return constant
    grid = torch.linspace(0, 1, _NODES, dtype=torch.float64, device=coefficients.device)
    low, span = coefficients.new_tensor(lows)[:, None], coefficients.new_tensor(spans)[:, None]
    logs = (span / (_NODES - 1)).log() - horner(coefficients, low + span * grid)
    composed = torch.logsumexp(logs.flatten(), 0)
    return constant + (composed - composed.detach())  # constant's value, composed's derivatives


def horner(coefficients: Tensor, x: Tensor) -> Tensor:
    value = torch.zeros_like(x)
    for c in coefficients.flip(0):
        value = value * x + c
    return value


@functools.lru_cache(maxsize=64)
def _integrated(coefficients: tuple[float, ...]) -> tuple[float, list[float], list[float]]:
    """The log of the integral, and the intervals outside of which the integrand is 0 in float64:
    their starts and their lengths."""
    try:
        turns = sorted((_shifted(coefficients, x)[0], x) for x in _roots(_derivative(list(coefficients))))
        lowest = turns[0][0]
        lows: list[float] = []
        spans: list[float] = []
        logs = []
        for value, middle in turns:
            within = any(low <= middle <= low + span for low, span in zip(lows, spans, strict=True))
            if within or value - lowest >= _NOTHING_LEFT:
                continue
            # The coefficients of p(middle + y) - lowest, around each minimum, are computed exactly
            # and rounded once, so nothing cancels.
            around = [float(value - lowest), *map(float, _shifted(coefficients, middle)[1:])]
            ends = _roots([around[0] - _NOTHING_LEFT, *around[1:]])
            low, high = max(end for end in ends if end <= 0), min(end for end in ends if end >= 0)
            lows, spans = [*lows, middle + low], [*spans, high - low]
            logs.append([_trapezoid(around, low, high - low, every) for every in (1, 2)])
        total, coarser = torch.tensor(logs, dtype=torch.float64, device="cpu").logsumexp(0).tolist()
        if not abs(total - coarser) < 1e-12:
            raise OverflowError
        return float(Fraction(total) - lowest), lows, spans
    except (OverflowError, ValueError) as error:
        raise ValueError(
            f"Polynomial.log_prob: the normaliser of the coefficients {list(coefficients)} can't be told to"
            " float64's precision"
        ) from error


def _trapezoid(coefficients: list[float], low: float, span: float, every: int) -> float:
    y = low + span * torch.linspace(0, 1, _NODES, dtype=torch.float64, device="cpu")[::every]
    height = horner(torch.tensor(coefficients, dtype=torch.float64, device="cpu"), y)
    return float(torch.logsumexp(-height, 0)) + math.log(every * span / (_NODES - 1))


def _derivative(coefficients: list[float]) -> list[float]:
    return [k * c for k, c in enumerate(coefficients)][1:]


def _shifted(coefficients: tuple[float, ...], by: float) -> list[Fraction]:
    """The coefficients of p(by + y), by repeated Horner schemes, one for each coefficient."""
    shifted = [Fraction(c) for c in coefficients]
    for first in range(len(shifted) - 1):
        for k in range(len(shifted) - 2, first - 1, -1):
            shifted[k] += Fraction(by) * shifted[k + 1]
    return shifted


def _roots(coefficients: list[float]) -> list[float]:
    """The real roots at which the sign changes, in order. Between two neighbouring roots of the
    derivative there is one or none."""
    while coefficients and not coefficients[-1]:
        coefficients = coefficients[:-1]
    degree = len(coefficients) - 1
    if degree < 1:
        return []
    # All roots lie within reach / 2 of 0 (Fujiwara 1916).
    reach = (
        4 * max(abs(c / coefficients[-1]) ** (1 / (degree - k)) for k, c in enumerate(coefficients[:-1]))
        or 1.0
    )
    if not math.isfinite(reach):
        raise OverflowError
    at = [-reach, *_roots(_derivative(coefficients)), reach] if degree > 1 else [-reach, reach]
    return [
        _bisected(coefficients, low, high)
        for low, high in itertools.pairwise(at)
        if (_value(coefficients, low) < 0) != (_value(coefficients, high) < 0)
    ]


def _bisected(coefficients: list[float], low: float, high: float) -> float:
    rising = _value(coefficients, low) < 0
    while low < (middle := 0.5 * (low + high)) < high:
        if (_value(coefficients, middle) < 0) == rising:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def _value(coefficients: list[float], x: float) -> float:
    value = 0.0
    for c in reversed(coefficients):
        value = value * x + c
    if math.isnan(value):
        raise OverflowError
    return value
