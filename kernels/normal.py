"""Standard normals by Box and Muller (1958): the operations of csrc/common/normal.h, in the same
order, each rounded by itself.

Launch whatever uses them with ``enable_fp_fusion=False``: a fused multiply-add changes the bits.
"""

import triton
import triton.language as tl

from .philox import philox4x32_10


# Minimax polynomials, highest power first; pyebm/reference/noise.py holds the same.
def _floats(text: str) -> tl.constexpr:
    return tl.constexpr(tuple(float.fromhex(c) for c in text.split()))


_LOG: tl.constexpr = _floats(
    "0x1.1f2802p-2 0x1.3b0c5ep-2 0x1.1ea89ap-2 0x1.5038e0p-2 0x1.99d3b0p-2 0x1.00144ep-1 0x1.5554fcp-1"
    " 0x1.ffffd6p-1 0x1p+1"
)
_SIN: tl.constexpr = _floats("-0x1.995408p-13 0x1.110778p-7 -0x1.555546p-3 0x1p+0")
_COS: tl.constexpr = _floats("-0x1.6447c6p-10 0x1.553e5ep-5 -0x1.ffffb2p-2 0x1p+0")
_TWO_THIRDS: tl.constexpr = tl.constexpr(0x3F2AAAAB)  # the float32 bits of 2/3
_MINUS_2_LN2: tl.constexpr = tl.constexpr(
    -float.fromhex("0x1.62e430p-23")
)  # for an exponent that sits above the mantissa
_ANGLE: tl.constexpr = tl.constexpr(float.fromhex("0x1.921fb6p-32"))  # pi/4 * 2^-31


@triton.jit
def _horner(x, COEFFICIENTS: tl.constexpr, N: tl.constexpr):
    value = x * COEFFICIENTS[0] + COEFFICIENTS[1]
    for k in tl.static_range(2, N):
        value = value * x + COEFFICIENTS[k]
    return value


@triton.jit
def box_muller(radius, angle):
    """R cos and R sin with R = sqrt(-2 log u), u = radius 2^-32 + 2^-33 and the angle 2 pi angle /
    2^32, from uint32 words."""
    # u 2^32 = 2^32 m 2^e with m in [2/3, 4/3), split in the bits: -2 log u = -2 e ln 2 + f q(f) at
    # f = 1 - m.
    bits = (radius.to(tl.float32) + 0.5).to(tl.int32, bitcast=True) - (32 << 23)
    exponent = (bits - _TWO_THIRDS) & -0x800000
    f = 1.0 - (bits - exponent).to(tl.float32, bitcast=True)
    r = tl.sqrt_rn(exponent.to(tl.float32) * _MINUS_2_LN2 + f * _horner(f, _LOG, 9))

    # The quadrant is the nearest multiple of a quarter turn; what remains of the angle is in
    # [-pi/4, pi/4).
    a = (angle << 2).to(tl.int32, bitcast=True).to(tl.float32) * _ANGLE
    y = a * a
    sin, cos = a * _horner(y, _SIN, 4), _horner(y, _COS, 4)
    turned = angle + 0x20000000
    swap = (turned & 0x40000000) != 0
    # The quadrant's sign is common to both normals, so it goes to the radius; the rest of the turn
    # is (c, s) or (-s, c).
    r = (r.to(tl.uint32, bitcast=True) ^ (turned & 0x80000000)).to(tl.float32, bitcast=True)
    return r * tl.where(swap, -sin, cos), r * tl.where(swap, cos, sin)


@triton.jit
def _call(group, name, UNIFORM: tl.constexpr):
    """The four numbers from one call of Philox."""
    key0, key1, sample, step, stream = name
    w0, w1, w2, w3 = philox4x32_10(group, sample, step, stream, key0, key1)
    if UNIFORM:
        z0, z1, z2, z3 = _uniform(w0), _uniform(w1), _uniform(w2), _uniform(w3)
    else:
        z0, z1 = box_muller(w0, w1)
        z2, z3 = box_muller(w2, w3)
    return z0, z1, z2, z3


@triton.jit
def _uniform(word):
    return (word.to(tl.float32) + 0.5) * 2.3283064365386963e-10  # 2^-32


@triton.jit
def first_uniform(name):
    """The uniform of element 0 of each sample that ``name`` (tile.name_of) has."""
    u0, _, _, _ = _call(tl.zeros_like(name[2]), name, True)
    return u0


@triton.jit
def _drawn(cell, name, UNIFORM: tl.constexpr, TILE: tl.constexpr):
    """The numbers of each cell, (N, VEC). The nested joins put them in order without moving
    anything between threads."""
    group = cell.to(tl.uint32)
    if TILE.VEC == 4:
        z0, z1, z2, z3 = _call(group, name, UNIFORM)
        z = tl.join(tl.join(z0, z2), tl.join(z1, z3))
    else:
        a0, a1, a2, a3 = _call(group * 2, name, UNIFORM)
        b0, b1, b2, b3 = _call(group * 2 + 1, name, UNIFORM)
        even = tl.join(tl.join(a0, b0), tl.join(a2, b2))
        odd = tl.join(tl.join(a1, b1), tl.join(a3, b3))
        z = tl.join(even, odd)
    return tl.reshape(z, (cell.shape[0], TILE.VEC))


@triton.jit
def normals(cell, name, TILE: tl.constexpr):
    """z for ``cell`` (N,) of VEC = 4 or 8 neighbours each, (N, VEC): a thread makes what it then
    stores with one instruction."""
    return _drawn(cell, name, False, TILE)


@triton.jit
def uniforms(cell, name, TILE: tl.constexpr):
    """u in (0, 1], from the same words as :func:`normals`."""
    return _drawn(cell, name, True, TILE)
