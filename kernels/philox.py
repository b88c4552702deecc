"""Philox4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
2011)."""

import triton
import triton.language as tl


@triton.jit
def _multiply(word, CONSTANT: tl.constexpr):
    """(high, low) of the 64-bit product: one wide multiply, where umulhi and * would be two."""
    product = word.to(tl.uint64) * CONSTANT
    return (product >> 32).to(tl.uint32), product.to(tl.uint32)


@triton.jit
def philox4x32_10(c0, c1, c2, c3, k0, k1):
    """Four uint32 words from a counter (c0 to c3) and a key (k0, k1) of uint32. A scalar argument
    stays a scalar as long as it can."""
    for _ in tl.static_range(10):
        high0, low0 = _multiply(c0, 0xD2511F53)
        high1, low1 = _multiply(c2, 0xCD9E8D57)
        c0 = high1 ^ c1 ^ k0
        c1 = low1
        c2 = high0 ^ c3 ^ k1
        c3 = low0
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return c0, c1, c2, c3
