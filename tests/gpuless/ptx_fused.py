"""Fused multiply-adds for ptx_ops.py: numpy has none, so their single rounding is made by hand."""

from __future__ import annotations

import numpy as np


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a b + c of float32, rounded once: through float64, whose last bit is set where it had to
    round (rounding to odd)."""
    product, addend = a.astype(np.float64) * b, c.astype(np.float64)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    bits = total.view(np.int64)
    inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
    towards_zero = (error > 0) != (total > 0)
    return (
        np.where(inexact, np.where(towards_zero, bits - 1, bits + 1), bits)
        .view(np.float64)
        .astype(np.float32)
    )


def fused_double(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a b + c of float64, rounded once: the product and the sum each as two numbers, then the two
    small parts rounded to odd (Boldo and Melquiond 2008). Where a part over- or underflows, in
    plain arithmetic: no kernel's numbers are so far out."""

    def product(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        def halves(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            high = 134217729.0 * z
            high = high - (high - z)
            return high, z - high

        (x1, x2), (y1, y2) = halves(x), halves(y)
        whole = x * y
        return whole, x2 * y2 - (((whole - x1 * y1) - x2 * y1) - x1 * y2)

    def total(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        whole = x + y
        part = whole - x
        return whole, (x - (whole - part)) + (y - part)

    high, low = product(a, b)
    upper, lower = total(c, low)
    first, second = total(high, upper)
    odd, error = total(second, lower)
    bits = odd.view(np.int64)
    inexact = (error != 0) & (bits & 1 == 0)
    odd = np.where(inexact, np.where((error > 0) != (odd > 0), bits - 1, bits + 1), bits).view(np.float64)
    result = first + odd
    return np.where(np.isfinite(result) & (np.abs(high) > 1e-250), result, high + c)
