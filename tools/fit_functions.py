"""Finds the polynomials of csrc/common/functions.h: ``python tools/fit_functions.py`` prints them,
with their errors.

Each is the least-squares fit of the relative error at Chebyshev points, which is nearly minimax, in
60 digits. The coefficients are rounded one at a time, from the lowest power up, and the rest fitted
again, so that rounding costs little.
"""

from collections.abc import Callable

import numpy as np
from mpmath import mp, mpf

mp.dps = 60


def to_float32(x: mpf) -> float:
    return float(np.float32(float(x)))


def fit(
    function: Callable[[mpf], mpf],
    low: float,
    high: float,
    degree: int,
    round_to: Callable,
    fixed: tuple = (),
) -> tuple:
    """Rounded coefficients, lowest power first, and the largest relative error on a grid."""
    low, high = mpf(low), mpf(high)
    done = [mpf(c) for c in fixed]
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos((2 * k + 1) * mp.pi / 80) for k in range(40)]
    values = [function(x) for x in nodes]
    while len(done) <= degree:
        left = mp.matrix(
            [1 - mp.polyval(done[::-1] or [0], x) / value for x, value in zip(nodes, values, strict=True)]
        )
        powers = [
            [x**k / value for k in range(len(done), degree + 1)]
            for x, value in zip(nodes, values, strict=True)
        ]
        done.append(mpf(round_to(mp.lu_solve(mp.matrix(powers), left)[0])))
    grid = [low + (high - low) * k / 997 for k in range(998)]
    error = max(abs(mp.polyval(done[::-1], x) / function(x) - 1) for x in grid)
    return [float(c) for c in done], error


def half_turn_sine(y: mpf) -> mpf:
    """sin(pi/2 q) / q at y = q^2."""
    q = mp.sqrt(abs(y)) + mpf(10) ** -25
    return mp.sin(mp.pi / 2 * q) / q


def exp_rest(r: mpf) -> mpf:
    """(e^r - 1 - r) / r^2."""
    r = r if abs(r) > mpf(10) ** -20 else mpf(10) ** -20
    return (mp.expm1(r) - r) / r**2


def normal_tail(t: mpf) -> mpf:
    """Phi(-u) e^(u^2 / 2) / t at t = 1 / (1 + u / 4)."""
    u = 4 * (1 / t - 1)
    return mp.erfc(u / mp.sqrt(2)) * mp.exp(u**2 / 2) / 2 / t


if __name__ == "__main__":
    half_ln2 = mp.log(2) / 2 * (1 + mpf(2) ** -12)
    for name, round_to, (sine, cosine, exp, tail), furthest, ulp in (
        ("float", to_float32, (3, 4, 4, 9), 13.2, mpf(2) ** -24),
        ("double", float, (7, 8, 9, 22), 38, mpf(2) ** -53),
    ):
        for label, (made, error) in {
            "sin(pi/2 q) / q in q^2, |q| <= 1/2": fit(half_turn_sine, 0, 0.25, sine, round_to),
            "cos(pi/2 q) in q^2": fit(
                lambda y: mp.cos(mp.pi / 2 * mp.sqrt(abs(y))), 0, 0.25, cosine, round_to, (1,)
            ),
            "(e^r - 1 - r) / r^2, |r| <= ln 2 / 2": fit(exp_rest, -half_ln2, half_ln2, exp, round_to, (0.5,)),
            f"Phi(-u) e^(u^2 / 2) / t, 0 <= u <= {furthest}": fit(
                normal_tail, 1 / mpf(1 + furthest / 4), 1, tail, round_to
            ),
        }.items():
            print(f"{name}: {label}: relative error {float(error / ulp):.3f} ulp/2")
            print("   ", *(c.hex() for c in made))
    for name, bits in (("float", 15), ("double", 33)):
        high = mp.floor(mp.log(2) * mpf(2) ** bits) / mpf(2) ** bits
        low = mp.log(2) - high
        print(
            name,
            "ln 2 =",
            float(high).hex(),
            "+",
            (float(low) if name == "double" else to_float32(low)).hex(),
        )
