"""Lists that the tests run over, and data that is the same on every run."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

# Empty shapes, odd ones, samples whose size is not a multiple of the generator's 4 lanes, sizes on
# both sides of those at which the kernels cut samples into chunks (512 and 1024 elements), and more
# than 2^16 elements (from where threads share the work).
SHAPES = (
    *((0,), (0, 3), (3, 0), (1,), (3,), (5, 1), (17,), (257,)),
    *((64, 2), (7, 17), (2, 257), (4, 3, 8, 8), (5, 3, 7, 3)),
    *((3, 509), (3, 515), (2, 1024), (2, 1027), (1, 65_539), (67, 1031), (22_001, 3)),
)
LARGE = ((1, 65_539), (67, 1031), (22_001, 3))

# Bits are promised, so compare without tolerance. No NaN passes (under the `poison` fixture
# unwritten memory holds NaN), and the dtypes must agree.
assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)


def name_of(value: object) -> str:
    """A test's id, such as 4x3x8x8 or float16."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value).removeprefix("torch.")


def in_turn(things: Iterable[T]) -> list[tuple[T, torch.dtype]]:
    """Each of the shapes or cases in float32, and in one of the other dtypes in turn."""
    others = DTYPES[1:]
    return [
        (thing, dtype) for k, thing in enumerate(things) for dtype in (torch.float32, others[k % len(others)])
    ]


def normal(
    *shape: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
    grad: bool = False,
) -> Tensor:
    """Test data from torch's own generator: the same numbers in every dtype, up to its rounding."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made.to(device, dtype).requires_grad_(grad)


def levels(
    batch: int, device: torch.device | str = "cpu", seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """One positive coefficient a sample, in [0.1, 1.1)."""
    return (torch.rand(batch, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1).to(
        device, dtype
    )


def column(rows: Tensor, like: Tensor) -> Tensor:
    """Reshapes (B,) to (B, 1, ...), to broadcast against ``like``."""
    return rows.reshape(-1, *[1] * (like.dim() - 1))
