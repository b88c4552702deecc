"""Tensors in any layout beside pages that may not be touched: a kernel that reads or writes one
byte too far dies of it."""

from __future__ import annotations

import ctypes
import math
import mmap
import random
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
SLOTS = tuple(1 << n for n in range(12, 23))
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


board: mmap.mmap | None = None  # the parent can read it after a case has killed its process


def note(text: str) -> None:
    """Notes what is about to be done."""
    if board is not None:
        board[8:] = text.encode()[: len(board) - 8].ljust(len(board) - 8, b"\0")


class Slot:
    """Memory between two such pages, and a copy of it. Bytes that belong to no tensor are 0xFF,
    which is NaN in every floating dtype."""

    free: ClassVar[dict[int, list[Slot]]] = {size: [] for size in SLOTS}

    def __init__(self, size: int) -> None:
        self.size = size
        whole = size + 2 * PAGE
        base = _libc.mmap(
            None, whole, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0
        )
        if base in (None, ctypes.c_void_p(-1).value):
            raise MemoryError(f"mmap of {whole} bytes failed")
        self.begin = base + PAGE
        for page in (base, self.begin + size):
            if _libc.mprotect(page, PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect failed")
        self.copy = ctypes.create_string_buffer(size)

    def fill(self, byte: int) -> None:
        ctypes.memset(self.begin, byte, self.size)

    def remember(self) -> None:
        ctypes.memmove(self.copy, self.begin, self.size)

    def is_as_it_was(self) -> bool:
        return _libc.memcmp(self.begin, self.copy, self.size) == 0

    def as_it_was(self, tensor: Tensor) -> Tensor:
        """This tensor of the slot as the copy has it."""
        there = torch.frombuffer(self.copy, dtype=tensor.dtype, offset=tensor.data_ptr() - self.begin)
        return there.as_strided(tensor.shape, tensor.stride())

    def part(self, offset: int, length: int, dtype: torch.dtype) -> Tensor:
        return torch.frombuffer((ctypes.c_uint8 * length).from_address(self.begin + offset), dtype=dtype)

    @classmethod
    def taken(cls, size: int) -> Slot:
        free = cls.free[size]
        return free.pop() if free else cls(size)


class Arena:
    """The tensors of one case, each in a slot of its own; ``check`` names one that was written
    to and should not have been."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.placed: list[tuple[str, Slot, Tensor]] = []

    def place(
        self, name: str, values: Tensor, strides: Sequence[int] | None = None, written: bool = False
    ) -> Tensor:
        """Puts a tensor of these values beside a guard page, with these strides or in a random
        layout."""
        if values.numel() == 0:
            return values.clone()
        if strides is None:
            strides = layout(self.rng, values.shape, expanded=not written)
        extent = 1 + sum((size - 1) * stride for size, stride in zip(values.shape, strides, strict=True))
        length = extent * values.element_size()
        size = next((size for size in SLOTS if size >= length), None)
        if size is None:
            return values.clone()
        slot = Slot.taken(size)
        slot.fill(1 if values.dtype == torch.bool else 0xFF)
        start = self.rng.choice((0, size - length))
        tensor = slot.part(start, length, values.dtype).as_strided(tuple(values.shape), tuple(strides))
        if 0 in strides:  # one value in memory, seen many times
            one = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides)
            tensor[one].copy_(values[one])
        else:
            tensor.copy_(values)
        slot.remember()
        self.placed.append((name, slot, tensor))
        return tensor

    def check(self, *written: Tensor) -> None:
        """Asserts that all bytes are unchanged, except the elements of the written tensors."""
        for name, slot, tensor in self.placed:
            may = any(tensor is each for each in written)
            if may:  # put its old elements back while its surroundings are compared
                now = tensor.clone()
                tensor.copy_(slot.as_it_was(tensor))
            same = slot.is_as_it_was()
            if may:
                tensor.copy_(now)
            if not same:
                where = "around" if may else "of"
                raise AssertionError(
                    f"bytes {where} {name} were written to: {tuple(tensor.shape)}, strides {tensor.stride()}"
                )

    def release(self) -> None:
        """Gives the memory to the next case; nobody may use these tensors any more."""
        for _, slot, _ in self.placed:
            Slot.free[slot.size].append(slot)
        self.placed = []


def layout(rng: random.Random, shape: Sequence[int], expanded: bool = True) -> list[int]:
    """Strides for a shape: contiguous, channels last, permuted, with gaps, expanded."""
    kind = rng.choice(
        ("contiguous", "contiguous", "last", "permuted", "gaps", "expanded" if expanded else "gaps")
    )
    order = list(range(len(shape)))
    if kind == "last" and len(shape) > 2:
        order = [0, *order[2:], 1]
    elif kind in ("permuted", "gaps", "expanded"):
        rng.shuffle(order)
    strides, stride = [0] * len(shape), 1
    for d in reversed(order):
        if kind == "expanded" and rng.random() < 0.5:
            continue
        step = rng.randint(1, 3) if kind == "gaps" else 1
        strides[d] = stride * step
        stride = strides[d] * max(shape[d], 1) + (rng.randint(0, 2) if kind == "gaps" else 0)
    return strides


FLOATS = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
SPECIAL = (
    math.nan,
    math.inf,
    -math.inf,
    0.0,
    -0.0,
    1e-45,
    1e-40,
    -1e-38,
    3e38,
    -3e38,
    65504.0,
    1e-8,
    5e-324,
    1e300,
)


def values(
    rng: random.Random, shape: Sequence[int], dtype: torch.dtype = torch.float32, special: bool = True
) -> Tensor:
    """Normals of some scale, sometimes mixed with values that arithmetic stumbles over."""
    made = torch.randn(
        tuple(shape), generator=torch.Generator().manual_seed(rng.getrandbits(60)), dtype=torch.float64
    )
    made *= rng.choice((1.0, 1.0, 1.0, 0.01, 30.0))
    if special and rng.random() < 0.15 and made.numel():
        flat = made.view(-1)
        for _ in range(rng.randint(1, 4)):
            flat[rng.randrange(len(flat))] = rng.choice(SPECIAL)
    return made.to(dtype)


def shape_of(rng: random.Random) -> tuple[int, ...]:
    """A random shape (B, ...): mostly small; sometimes empty, or with sizes around the kernels'
    lanes and chunks, or large enough for several threads."""
    kind = rng.random()
    if kind < 0.04:
        return rng.choice(((0,), (0, 3), (3, 0), (2, 0, 4)))
    if kind < 0.07:
        return rng.choice(((2, 1024), (2, 1027), (1, 65_539), (67, 1031), (5000, 15), (3, 511), (600, 130)))
    sizes = (1, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33)
    shape = [rng.choice(sizes)]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 3))):
        shape.append(rng.choice(sizes if math.prod(shape) < 200 else sizes[:5]))
    return tuple(shape)
