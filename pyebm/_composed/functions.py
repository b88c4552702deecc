"""exp, sine and cosine, roots and sums with fixed operations: csrc/common/functions.h in PyTorch,
differentiable to any order."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._name import readable

LANES = 32  # the partial sums of a sum


def _floats(text: str) -> list[float]:
    return [float.fromhex(c) for c in text.split()]


class _Real(NamedTuple):
    """The constants of csrc/common/functions.h Real<float> and Real<double>. A polynomial's
    coefficients begin with the lowest power."""

    bits: torch.dtype
    mantissa: int
    bias: int
    to_integer: float
    exp_range: tuple[float, float]
    log2_e: float
    ln2: tuple[float, float]
    exp_rest: list[float]
    sine: list[float]
    cosine: list[float]


_REAL = {
    torch.float32: _Real(
        torch.int32,
        23,
        127,
        1.5 * 2.0**23,
        (-104.0, 89.0),
        float.fromhex("0x1.715476p0"),
        (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cp-20")),
        _floats("0x1p-1 0x1.5554dep-3 0x1.555584p-5 0x1.120ac6p-7 0x1.6c8ba4p-10"),
        _floats("0x1.921fb6p0 -0x1.4abbecp-1 0x1.466b22p-4 -0x1.2f5a1ep-8"),
        _floats("0x1p0 -0x1.3bd3ccp0 0x1.03c1b8p-2 -0x1.55b7cep-6 0x1.d684a8p-11"),
    ),
    torch.float64: _Real(
        torch.int64,
        52,
        1023,
        1.5 * 2.0**52,
        (-746.0, 710.0),
        float.fromhex("0x1.71547652b82fep0"),
        (float.fromhex("0x1.62e42fefp-1"), float.fromhex("0x1.473de6af278edp-34")),
        _floats(
            "0x1p-1 0x1.5555555555549p-3 0x1.55555555543d7p-5 0x1.1111111116071p-7 0x1.6c16c17706bd8p-10"
            " 0x1.a01a017f4d7d8p-13 0x1.a019bd48744adp-16 0x1.71de7db7ce8e3p-19 0x1.288d99b63a775p-22"
            " 0x1.ae69b5c5d7d09p-26"
        ),
        _floats(
            "0x1.921fb54442d18p0 -0x1.4abbce625be01p-1 0x1.466bc67753d4ep-4 -0x1.32d2ccde110d9p-8 "
            "0x1.50782aac71d00p-13 -0x1.e2fa7535e8e73p-19 0x1.e0685fa63de7ep-25 0x1.af71d882650f9p-32"
        ),
        _floats(
            "0x1p0 -0x1.3bd3cc9be45dep0 0x1.03c1f081b5a56p-2 -0x1.55d3c7e3bfb67p-6 0x1.e1f506732fde4p-11 "
            "-0x1.a6d1dd0e2f6c2p-16 0x1.f9bbb1bd99e55p-22 -0x1.a903a944af43bp-28 -0x1.1714f8be2b45cp-33"
        ),
    ),
}


def horner(coefficients: list[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * x + c
    return value


def sqrt(x: Tensor) -> Tensor:
    """The correctly rounded float32 root; torch.sqrt on the CPU does not always round correctly.

    Through float64 the result is correct, though the float64 root may be off by an ulp too: the
    root of a 24-bit number is never within 2^-50 of the middle between two float32 numbers.
    """
    return x.double().sqrt().float()


def sqrt64(x: Tensor) -> Tensor:
    """The correctly rounded float64 root of a few coefficients."""
    if not x.is_cpu or not readable(x):
        return x.sqrt()  # CUDA rounds it correctly; compiled code may not
    return torch.tensor(
        [math.sqrt(value) for value in x.flatten().tolist()], dtype=torch.float64, device=x.device
    ).reshape(x.shape)


def exponential(x: Tensor) -> Tensor:
    """e^x = 2^n e^r with |r| <= ln 2 / 2."""
    real = _REAL[x.dtype]
    low, high = real.exp_range
    x = torch.where(x < low, low, x)
    x = torch.where(x > high, high, x)
    shifted = x.detach() * real.log2_e + real.to_integer
    n = shifted - real.to_integer
    r = (x - n * real.ln2[0]) - n * real.ln2[1]
    power = 1.0 + (r + (r * r) * horner(real.exp_rest, r))
    biased = (shifted - real.to_integer).nan_to_num(0.0).to(real.bits) + 2 * (real.bias + 1)
    half = biased >> 1
    first, second = (((part - 1) << real.mantissa).view(x.dtype) for part in (half, biased - half))
    return (power * first) * second


def sine_cosine(t: Tensor) -> tuple[Tensor, Tensor]:
    """sin(2 pi t) and cos(2 pi t)."""
    real = _REAL[t.dtype]
    quarters = 4.0 * (t - ((t.detach() + real.to_integer) - real.to_integer))
    shifted = quarters.detach() + real.to_integer
    q = quarters - (shifted - real.to_integer)
    y = q * q
    s, c = q * horner(real.sine, y), horner(real.cosine, y)
    quadrant = shifted.view(real.bits)
    swap = quadrant & 1 == 1
    sine, cosine = torch.where(swap, c, s), torch.where(swap, s, c)
    return torch.where(quadrant & 2 != 0, -sine, sine), torch.where((quadrant + 1) & 2 != 0, -cosine, cosine)


class _Root64(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return sqrt64(x)

    @staticmethod
    def setup_context(ctx: Any, _inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (root,) = ctx.saved_tensors
        return grad * (0.5 / root)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Any:
        (root,) = ctx.saved_tensors
        return tangent * (0.5 / root)

    @staticmethod
    def vmap(_info: Any, in_dims: tuple[int | None, ...], x: Tensor) -> tuple[Tensor, int | None]:
        return _Root64.apply(x), in_dims[0]  # type: ignore[no-untyped-call]


def root(x: Tensor) -> Tensor:
    """The correctly rounded square root."""
    if x.dtype != torch.float64:
        return sqrt(x)
    if torch.compiler.is_compiling():  # torch.compile can't trace a Function with a jvp
        return x.sqrt()
    value: Tensor = _Root64.apply(x)  # type: ignore[no-untyped-call]
    return value


def sum_of(terms: Tensor) -> Tensor:
    """The sum over the last dimension, in the fixed order of csrc/common/targets.h kSumLanes."""
    width = terms.shape[-1]
    lanes = torch.nn.functional.pad(terms, (0, -width % LANES)).unflatten(-1, (-1, LANES)).unbind(-2)
    total: Tensor = lanes[0]
    for more in lanes[1:]:
        total = total + more
    while total.shape[-1] > 1:
        half = total.shape[-1] // 2
        total = total[..., :half] + total[..., half:]
    return total[..., 0]
