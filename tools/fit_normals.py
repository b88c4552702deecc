"""Finds the polynomials of csrc/common/normal.h: ``python tools/fit_normals.py`` prints them, with
their errors.

Each is the minimax polynomial in relative error, by linear programming on Chebyshev points. The
coefficients are rounded to float32 one at a time, from the lowest power up, and the rest fitted
again, so that rounding costs little.
"""

import numpy as np
from scipy.optimize import linprog

ULP = 2.0**-24  # the largest relative error of one rounding to float32


def minimax(columns: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Coefficients that minimise max |columns @ c - target|: a linear program on the remainder
    of a least-squares fit, scaled up."""
    scale = np.abs(columns).max(0)
    scaled = columns / scale
    start = np.linalg.lstsq(scaled, target, rcond=None)[0]
    left = (target - scaled @ start) * 1e7  # scaled up, because the solver's own tolerance is 1e-7
    slack = -np.ones((len(target), 1))
    count = columns.shape[1]
    found = linprog(
        np.r_[np.zeros(count), 1.0],
        A_ub=np.block([[scaled, slack], [-scaled, slack]]),
        b_ub=np.r_[left, -left],
        bounds=[(None, None)] * count + [(0, None)],
    )
    return (start + found.x[:count] / 1e7) / scale


def fit(
    function, low: float, high: float, degree: int, fixed: tuple[float, ...] = ()
) -> tuple[list[float], float]:
    """float32 coefficients, lowest power first, and the largest relative error."""
    x = np.cos(np.linspace(0, np.pi, 1501)) * (high - low) / 2 + (low + high) / 2
    y = function(x)
    powers = np.vander(x, degree + 1, increasing=True) / y[:, None]
    coefficients = list(fixed)
    while len(coefficients) <= degree:
        done = len(coefficients)
        rest = minimax(powers[:, done:], 1.0 - powers[:, :done] @ np.array(coefficients))
        coefficients.append(float(np.float32(rest[0])))
    return coefficients, float(np.abs(powers @ np.array(coefficients) - 1.0).max())


def log_quotient(f: np.ndarray) -> np.ndarray:
    """-2 log(1 - f) / f."""
    f = np.where(np.abs(f) < 1e-9, 1e-9, f)
    return -2 * np.log1p(-f) / f


if __name__ == "__main__":
    turn = (np.pi / 4) ** 2
    for name, result in {
        "-2 log(1 - f) / f on [-1/3, 1/3]": fit(log_quotient, -1 / 3, 1 / 3, 8),
        "sin(a) / a in a^2, |a| <= pi/4": fit(lambda y: np.sinc(np.sqrt(np.abs(y)) / np.pi), 0, turn, 3),
        "cos(a) in a^2, |a| <= pi/4": fit(lambda y: np.cos(np.sqrt(np.abs(y))), 0, turn, 3, (1.0,)),
    }.items():
        print(f"{name}: relative error {result[1] / ULP:.2f} * 2^-24")
        print("   ", *(c.hex() for c in result[0]))
