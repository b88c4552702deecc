"""Philox, the normals and the uniforms of the noise contract, and the ops that write them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._composed.functions import horner, sqrt

_M0, _M1 = 0xD2511F53, 0xCD9E8D57  # Philox4x32's multipliers and key increments (Salmon et al. 2011)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF

# Minimax polynomials, coefficients rounded to float32, lowest power first. csrc/common/normal.h
# holds the same.
LOG = (
    "0x1p+1 0x1.ffffd6p-1 0x1.5554fcp-1 0x1.00144ep-1 0x1.99d3b0p-2 0x1.5038e0p-2 0x1.1ea89ap-2 0x1.3b0c5ep-2"
    " 0x1.1f2802p-2"
)
SIN = "0x1p+0 -0x1.555546p-3 0x1.110778p-7 -0x1.995408p-13"
COS = "0x1p+0 -0x1.ffffb2p-2 0x1.553e5ep-5 -0x1.6447c6p-10"
_LOG, _SIN, _COS = ([float.fromhex(c) for c in p.split()] for p in (LOG, SIN, COS))
_TWO_THIRDS = 0x3F2AAAAB  # the float32 bits of 2/3
# -2 ln 2 * 2^-23: the exponent is still shifted left by the 23 bits of the mantissa.
_MINUS_2_LN2 = -float.fromhex("0x1.62e430p-23")
_ANGLE = float.fromhex("0x1.921fb6p-32")  # pi/4 * 2^-31


def philox4x32_10(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    2011) on 32-bit words in int64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2  # int64 wraps around at 2^64; the masks below remove the sign bits
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


def box_muller(radius: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Two words (int64 in [0, 2^32)) to two float32 normals: R cos and R sin with R = sqrt(-2 log
    u).

    u = radius 2^-32 + 2^-33, the angle is 2 pi angle / 2^32.
    """
    # Split the bits so that u = m 2^e with m in [2/3, 4/3). Then -2 log u = -2 e ln 2 + f q(f) with
    # f = 1 - m.
    bits = (radius.float() + 0.5).view(torch.int32) - (32 << 23)
    exponent = (bits - _TWO_THIRDS) & -(1 << 23)
    f = 1.0 - (bits - exponent).view(torch.float32)
    r = sqrt(exponent.float() * _MINUS_2_LN2 + f * horner(_LOG, f))

    # The quadrant is the nearest multiple of a quarter turn; the remainder of the angle is in
    # [-pi/4, pi/4).
    quadrant = ((angle + (1 << 29)) >> 30) & 3
    remainder = angle << 2 & _MASK
    a = torch.where(remainder >= 1 << 31, remainder - (1 << 32), remainder).float() * _ANGLE
    y = a * a
    sin, cos = a * horner(_SIN, y), horner(_COS, y)
    swap = quadrant & 1 == 1
    even, odd = torch.where(swap, sin, cos), torch.where(swap, cos, sin)
    even = torch.where((quadrant == 1) | (quadrant == 2), -even, even)
    odd = torch.where(quadrant >= 2, -odd, odd)
    return r * even, r * odd


def uniform(word: Tensor) -> Tensor:
    """A word (int64 in [0, 2^32)) to a float32 uniform in (0, 1]: word 2^-32 + 2^-33."""
    return (word.float() + 0.5) * 2.0**-32


def words(shape: torch.Size, name: Tensor, seeds: Tensor | None, ids: Tensor | None) -> list[Tensor]:
    """The four words of every Philox call (samples, calls a sample) behind a tensor of this shape,
    samples first."""
    batch, elements = shape[0], math.prod(shape[1:])
    seed, first_sample, step, stream = name.unbind()
    seeds = (seed if seeds is None else seeds).reshape(-1, 1)
    samples = torch.arange(batch, device=name.device) + first_sample if ids is None else ids
    groups = torch.arange((elements + 3) // 4, device=name.device)
    drawn = philox4x32_10(
        (groups, samples.reshape(-1, 1), step, stream), (seeds & _MASK, (seeds >> 32) & _MASK)
    )
    return [word.expand(batch, groups.shape[0]) for word in drawn]


def _laid_out(lanes: tuple[Tensor, ...], shape: torch.Size) -> Tensor:
    batch, groups = lanes[0].shape
    return torch.stack(lanes, dim=-1).reshape(batch, groups * 4)[:, : math.prod(shape[1:])].reshape(shape)


def normals(shape: torch.Size, name: Tensor, seeds: Tensor | None, ids: Tensor | None) -> Tensor:
    """The contract's float32 normals for a tensor of this shape, whose first dimension counts
    samples."""
    w0, w1, w2, w3 = words(shape, name, seeds, ids)
    return _laid_out((*box_muller(w0, w1), *box_muller(w2, w3)), shape)


def uniforms(shape: torch.Size, name: Tensor, seeds: Tensor | None, ids: Tensor | None) -> Tensor:
    """The contract's float32 uniforms in (0, 1], one a word."""
    return _laid_out(tuple(uniform(word) for word in words(shape, name, seeds, ids)), shape)


def normal_(out: Tensor, name: Tensor, seeds: Tensor | None = None, ids: Tensor | None = None) -> None:
    out.copy_(normals(out.shape, name, seeds, ids))


def uniform_(out: Tensor, name: Tensor, seeds: Tensor | None = None, ids: Tensor | None = None) -> None:
    out.copy_(uniforms(out.shape, name, seeds, ids))
