"""The activations of networks and their derivatives: csrc/common/activations.h operation by
operation. Products are fused where that file fuses them, and nowhere else."""

import ctypes

import triton
import triton.language as tl

from .functions import _EXP32, _EXP64, _REAL32, _REAL64, quotient
from .normal import _floats

# Phi(-u) = e^(-u^2 / 2) t P(t), highest power first.
_TAIL32: tl.constexpr = _floats(
    "0x1.0aa2d2p-6 -0x1.f40df6p-5 0x1.83673p-5 0x1.1bb162p-5 0x1.d7a32ap-8 0x1.6fffa8p-4 0x1.22065cp-4"
    " 0x1.885f4ep-4 0x1.975f0ap-4 0x1.98937p-4"
)
_TAIL64: tl.constexpr = _floats(
    "-0x1.42451bd205199p-10 0x1.c016f1538586ep-7 -0x1.19ae3b045943p-4 0x1.a280ae15c57c3p-3"
    " -0x1.90898870f5907p-2 0x1.f1813d495ff34p-2 -0x1.6a1f399d15cc7p-2 0x1.e0fea4b794ec8p-5"
    " 0x1.78723dc1f0b2dp-3 -0x1.07b8f1d10be1p-2 0x1.ae90bbfff82ep-3 -0x1.e4af9a5ad15cfp-4 0x1.768a70fb41cp-5"
    " -0x1.844459b30c5e8p-6 0x1.8328a677b1c52p-10 0x1.98705450a122bp-8 0x1.81f2924da1b22p-6"
    " 0x1.6218f80ddfbc3p-5 0x1.041e43a78e501p-4 0x1.4beb5f8ac9a7cp-4 0x1.7efc0fc59aea7p-4"
    " 0x1.9884533035a1fp-4 0x1.9884533d708d4p-4"
)


def _singles(numbers: list[float]) -> tl.constexpr:
    return tl.constexpr(tuple(ctypes.c_float(number).value for number in numbers))


# 2 / (2 k + 1), highest k first.
_ARTANH64: tl.constexpr = tl.constexpr(tuple(2.0 / (2 * k + 1) for k in range(15, -1, -1)))
_ARTANH32: tl.constexpr = _singles([2.0 / (2 * k + 1) for k in range(7, -1, -1)])
# 2 sqrt(2 / pi), the cube's factor and three times that, 1 / sqrt(2 pi), six times the first two.
_SCALE = 1.5957691216057307
_GELU64: tl.constexpr = tl.constexpr(
    (_SCALE, 0.044715, 3 * 0.044715, float.fromhex("0x1.9884533d43651p-2"), 6 * _SCALE * 0.044715)
)
_CUBE, _SIX = ctypes.c_float(0.044715).value, ctypes.c_float(6 * ctypes.c_float(_SCALE).value).value
_GELU32: tl.constexpr = _singles(
    [_SCALE, _CUBE, 3 * _CUBE, float.fromhex("0x1.9884533d43651p-2"), _SIX * _CUBE]
)


@triton.jit
def _all(value: tl.constexpr, x):
    """``value`` everywhere, like x."""
    return tl.full(x.shape, value, x.dtype)


@triton.jit
def _horner(x, COEFFICIENTS: tl.constexpr, N: tl.constexpr):
    value = _all(COEFFICIENTS[0], x)
    for k in tl.static_range(1, N):
        value = tl.fma(value, x, _all(COEFFICIENTS[k], x))
    return value


@triton.jit
def _negated(x):
    return x * _all(-1.0, x)  # Triton's -x is 0 - x, which is +0 at +0


@triton.jit
def _inverse(x):
    return quotient(_all(1.0, x), x)


@triton.jit
def _power(x):
    """e^x = scale (1 + rest), and (e^x, e^x - 1), where e^x and e^-x are normal numbers."""
    T: tl.constexpr = x.dtype
    DOUBLE: tl.constexpr = tl.float64 == T
    REAL: tl.constexpr = _REAL64 if DOUBLE else _REAL32
    BITS: tl.constexpr = tl.uint64 if DOUBLE else tl.uint32
    BORDER: tl.constexpr = 708.0 if DOUBLE else 87.0
    SHIFT: tl.constexpr = (1.5 * 2.0**52 + 1023) if DOUBLE else (1.5 * 2.0**23 + 127)
    x = tl.where(x < _all(-BORDER, x), _all(-BORDER, x), x)
    x = tl.where(x > _all(BORDER, x), _all(BORDER, x), x)
    shifted = tl.fma(x, _all(REAL[2], x), _all(SHIFT, x))
    n = shifted - _all(SHIFT, x)
    r = tl.fma(n, _all(-REAL[4], x), tl.fma(n, _all(-REAL[3], x), x))
    rest = tl.fma(r * r, _horner(r, _EXP64 if DOUBLE else _EXP32, 10 if DOUBLE else 5), r)
    scale = (shifted.to(BITS, bitcast=True) << (52 if DOUBLE else 23)).to(T, bitcast=True)
    return tl.fma(scale, rest, scale), tl.fma(scale, rest, scale - _all(1.0, x))


@triton.jit
def _sigmoids(x):
    """sigmoid(x) and 1 - sigmoid(x), each to its own last digits."""
    e, _ = _power(_negated(x))
    of = _inverse(_all(1.0, x) + e)
    return of, e * of


@triton.jit
def _log_of_one_and(e):
    DOUBLE: tl.constexpr = tl.float64 == e.dtype
    s = quotient(e, _all(2.0, e) + e)
    return s * _horner(s * s, _ARTANH64 if DOUBLE else _ARTANH32, 16 if DOUBLE else 8)


@triton.jit
def _with_sign_of(x, magnitude):
    T: tl.constexpr = x.dtype
    BITS: tl.constexpr = tl.uint64 if tl.float64 == T else tl.uint32
    sign = x.to(BITS, bitcast=True) & _all(-0.0, x).to(BITS, bitcast=True)
    return (magnitude.to(BITS, bitcast=True) | sign).to(T, bitcast=True)


@triton.jit
def activated(z, p, KIND: tl.constexpr, CURVED: tl.constexpr):
    """An activation's value at z, its slope there and, if CURVED, its second derivative. p, a
    number: the activation's parameter. KIND: its name in pyebm/_schemas.py ACTIVATIONS."""
    DOUBLE: tl.constexpr = tl.float64 == z.dtype
    GELU: tl.constexpr = _GELU64 if DOUBLE else _GELU32
    one, none = _all(1.0, z), _all(0.0, z)
    value, slope, curve = z, one, none
    if KIND == "silu":
        of, rest = _sigmoids(z)
        value = z * of
        slope = tl.fma(value, rest, of)
        if CURVED:
            curve = (of * rest) * tl.fma(z, rest - of, _all(2.0, z))
    elif KIND == "tanh":
        e, minus_one = _power(tl.abs(z) * _all(-2.0, z))
        over = _inverse(_all(2.0, z) + minus_one)
        value = _with_sign_of(z, _negated(minus_one) * over)
        slope = (_all(4.0, z) * e) * (over * over)
        if CURVED:
            curve = (_all(-2.0, z) * value) * slope
    elif KIND == "softplus":
        u = p * z
        e, _ = _power(_negated(tl.abs(u)))
        over = _inverse(one + e)
        curved = tl.where(z > 0, z, none) + _log_of_one_and(e) * _inverse(tl.zeros_like(z) + p)
        value = tl.where(u > 20, z, curved)  # as torch
        slope = tl.where(u > 20, one, tl.where(u > 0, over, e * over))
        if CURVED:
            curve = tl.where(u > 20, none, (p * e) * (over * over))
    elif KIND == "sigmoid":
        value, rest = _sigmoids(z)
        slope = value * rest
        if CURVED:
            curve = slope * (rest - value)
    elif KIND == "gelu":
        u = tl.abs(z)
        bell, _ = _power((u * u) * _all(-0.5, z))
        t = _inverse(tl.fma(u, _all(0.25, z), one))
        tail = bell * (t * _horner(t, _TAIL64 if DOUBLE else _TAIL32, 23 if DOUBLE else 10))
        below = tl.where(z > 0, one - tail, tail)
        value = z * below
        density = bell * _all(GELU[3], z)
        slope = tl.fma(z, density, below)
        if CURVED:
            curve = density * tl.fma(_negated(z), z, _all(2.0, z))
    elif KIND == "gelu_tanh":
        near = tl.where(z < -20, _all(-20.0, z), z)
        near = tl.where(near > 20, _all(20.0, z), near)
        square = near * near
        of, rest = _sigmoids((_all(GELU[0], z) * near) * tl.fma(square, _all(GELU[1], z), one))
        steepness = _all(GELU[0], z) * tl.fma(square, _all(GELU[2], z), one)
        value = z * of
        slope = tl.fma(value * rest, steepness, of)
        if CURVED:
            bent = tl.fma(steepness * steepness, rest - of, _all(GELU[4], z) * near)
            curve = (of * rest) * tl.fma(near, bent, _all(2.0, z) * steepness)
    elif KIND == "elu":
        e, minus_one = _power(tl.where(z > 0, none, z))
        value = tl.where(z > 0, z, p * minus_one)
        slope = tl.where(z > 0, one, p * e)
        if CURVED:
            curve = tl.where(z > 0, none, p * e)
    elif KIND == "relu":
        value = tl.where(z < 0, none, z)
        slope = tl.where(z > 0, one, none)
    elif KIND == "leaky_relu":
        value = tl.where(z > 0, z, p * z)
        slope = tl.where(z > 0, one, none + p)
    return value, slope, curve
