"""exp, sine and cosine, roots and quotients: the operations of csrc/common/functions.h, in the same
order, each rounded by itself.

2^y, for the dense targets (csrc/cpu/simd/vectors.h), is the exception: its products are fused.
"""

import triton
import triton.language as tl

from .normal import _floats

# Polynomials, highest power first; pyebm/_composed/functions.py holds the same.
_EXP32: tl.constexpr = _floats("0x1.6c8ba4p-10 0x1.120ac6p-7 0x1.555584p-5 0x1.5554dep-3 0x1p-1")
_SIN32: tl.constexpr = _floats("-0x1.2f5a1ep-8 0x1.466b22p-4 -0x1.4abbecp-1 0x1.921fb6p0")
_COS32: tl.constexpr = _floats("0x1.d684a8p-11 -0x1.55b7cep-6 0x1.03c1b8p-2 -0x1.3bd3ccp0 0x1p0")
_EXP64: tl.constexpr = _floats(
    "0x1.ae69b5c5d7d09p-26 0x1.288d99b63a775p-22 0x1.71de7db7ce8e3p-19 0x1.a019bd48744adp-16"
    " 0x1.a01a017f4d7d8p-13 0x1.6c16c17706bd8p-10 0x1.1111111116071p-7 0x1.55555555543d7p-5"
    " 0x1.5555555555549p-3 0x1p-1"
)
_SIN64: tl.constexpr = _floats(
    "0x1.af71d882650f9p-32 0x1.e0685fa63de7ep-25 -0x1.e2fa7535e8e73p-19 0x1.50782aac71d00p-13 "
    "-0x1.32d2ccde110d9p-8 0x1.466bc67753d4ep-4 -0x1.4abbce625be01p-1 0x1.921fb54442d18p+0"
)
_COS64: tl.constexpr = _floats(
    "-0x1.1714f8be2b45cp-33 -0x1.a903a944af43bp-28 0x1.f9bbb1bd99e55p-22 -0x1.a6d1dd0e2f6c2p-16"
    " 0x1.e1f506732fde4p-11 -0x1.55d3c7e3bfb67p-6 0x1.03c1f081b5a56p-2 -0x1.3bd3cc9be45dep+0 0x1p0"
)
_EXP2_32: tl.constexpr = _floats(
    "0x1.5bba18p-10 0x1.3cea88p-7 0x1.c6b752p-5 0x1.ebf9bcp-3 0x1.62e42ap-1 0x1p0"
)
_EXP2_64: tl.constexpr = _floats(
    "0x1.e79ba5e93da52p-32 0x1.e61b4f5049cdcp-28 0x1.b5267cea5f68ep-24 0x1.62bfc79d7642ap-20"
    " 0x1.ffcbfba97c6d7p-17 0x1.4309130ed8bc8p-13 0x1.5d87fe78cd6dcp-10 0x1.3b2ab6fba011ap-7"
    " 0x1.c6b08d7049fe8p-5 0x1.ebfbdff82c5a4p-3 0x1.62e42fefa39efp-1 0x1p0"
)
# The bounds of exp's argument, log2 e, and ln 2 in two parts.
_REAL32: tl.constexpr = _floats("-0x1.ap6 0x1.64p6 0x1.715476p0 0x1.62e4p-1 0x1.7f7d1cp-20")
_REAL64: tl.constexpr = _floats(
    "-0x1.75p9 0x1.63p9 0x1.71547652b82fep0 0x1.62e42fefp-1 0x1.473de6af278edp-34"
)
_TO_INTEGER32: tl.constexpr = tl.constexpr(1.5 * 2.0**23)
_TO_INTEGER64: tl.constexpr = tl.constexpr(1.5 * 2.0**52)


@triton.jit
def _constant(value: tl.constexpr, T: tl.constexpr):
    """``value`` as a number of type T; Triton would make it a float32."""
    return tl.full([], value, T)


@triton.jit
def _horner(x, COEFFICIENTS: tl.constexpr, N: tl.constexpr):
    value = x * _constant(COEFFICIENTS[0], x.dtype) + _constant(COEFFICIENTS[1], x.dtype)
    for k in tl.static_range(2, N):
        value = value * x + _constant(COEFFICIENTS[k], x.dtype)
    return value


@triton.jit
def exponential(x):
    """e^x = 2^n e^r with |r| <= ln 2 / 2. Two factors make 2^n, so that results overflow and
    underflow as they should."""
    T: tl.constexpr = x.dtype
    DOUBLE: tl.constexpr = tl.float64 == T
    REAL: tl.constexpr = _REAL64 if DOUBLE else _REAL32
    BITS: tl.constexpr = tl.uint64 if DOUBLE else tl.uint32
    MANTISSA: tl.constexpr = 52 if DOUBLE else 23
    TWO_BIAS: tl.constexpr = 2 * (1024 if DOUBLE else 128)
    to_integer = _constant(_TO_INTEGER64 if DOUBLE else _TO_INTEGER32, T)
    x = tl.where(x < _constant(REAL[0], T), _constant(REAL[0], T), x)
    x = tl.where(x > _constant(REAL[1], T), _constant(REAL[1], T), x)
    shifted = x * _constant(REAL[2], T) + to_integer
    n = shifted - to_integer
    r = (x - n * _constant(REAL[3], T)) - n * _constant(REAL[4], T)
    power = _constant(1.0, T) + (r + (r * r) * _horner(r, _EXP64 if DOUBLE else _EXP32, 10 if DOUBLE else 5))
    biased = shifted.to(BITS, bitcast=True) - to_integer.to(BITS, bitcast=True) + TWO_BIAS
    half = biased >> 1
    first = ((half - 1) << MANTISSA).to(T, bitcast=True)
    second = ((biased - half - 1) << MANTISSA).to(T, bitcast=True)
    return (power * first) * second


@triton.jit
def exponential2(y):
    """2^y for y <= 0, within 2^-23 (float32) or 2^-52 (float64) of it; 1 at 0, 0 where it would be
    subnormal, NaN stays NaN."""
    T: tl.constexpr = y.dtype
    DOUBLE: tl.constexpr = tl.float64 == T
    TERMS: tl.constexpr = _EXP2_64 if DOUBLE else _EXP2_32
    BITS: tl.constexpr = tl.int64 if DOUBLE else tl.int32
    to_integer = _constant(_TO_INTEGER64 if DOUBLE else _TO_INTEGER32, T)
    rounded = y + to_integer
    f = y - (rounded - to_integer)
    value = tl.full(y.shape, TERMS[0], T)
    for k in tl.static_range(1, 12 if DOUBLE else 6):
        value = tl.fma(value, f, tl.full(y.shape, TERMS[k], T))
    exponent = rounded.to(BITS, bitcast=True) << (52 if DOUBLE else 23)
    power = (value.to(BITS, bitcast=True) + exponent).to(T, bitcast=True)
    power = tl.where(y < _constant(-1022.0 if DOUBLE else -126.0, T), _constant(0.0, T), power)
    return tl.where(y == y, power, y)


@triton.jit
def sine_cosine(t):
    """sin(2 pi t) and cos(2 pi t). Rounding 4 t to an integer gives the nearest quarter turn
    exactly; polynomials cover the rest of the angle."""
    T: tl.constexpr = t.dtype
    DOUBLE: tl.constexpr = tl.float64 == T
    to_integer = _constant(_TO_INTEGER64 if DOUBLE else _TO_INTEGER32, T)
    quarters = _constant(4.0, T) * (t - ((t + to_integer) - to_integer))
    shifted = quarters + to_integer
    q = quarters - (shifted - to_integer)
    y = q * q
    s = q * _horner(y, _SIN64 if DOUBLE else _SIN32, 8 if DOUBLE else 4)
    c = _horner(y, _COS64 if DOUBLE else _COS32, 9 if DOUBLE else 5)
    quadrant = shifted.to(tl.uint64 if DOUBLE else tl.uint32, bitcast=True).to(tl.uint32)
    swap = (quadrant & 1) != 0
    sine, cosine = tl.where(swap, c, s), tl.where(swap, s, c)
    return tl.where((quadrant & 2) != 0, -sine, sine), tl.where(((quadrant + 1) & 2) != 0, -cosine, cosine)


@triton.jit
def root(x):
    """sqrt(x), correctly rounded."""
    if x.dtype == tl.float64:
        value = tl.sqrt(x)
    else:
        value = tl.sqrt_rn(x)
    return value


@triton.jit
def quotient(a, b):
    """a / b, correctly rounded."""
    if a.dtype == tl.float64:
        value = a / b
    else:
        value = tl.div_rn(a, b)
    return value
