"""Registers, special registers and operands of the threads that ptx.py runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from ptx_memory import Global, PtxError, Shared, Unsettled

if TYPE_CHECKING:
    from ptx import Kernel

UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
FLOAT = {16: np.float16, 32: np.float32, 64: np.float64}


def type_of(name: str) -> tuple[str, int]:
    """The kind and the bits of a type: ("f", 32) for f32, ("p", 1) for a predicate."""
    if name == "pred":
        return "p", 1
    return name[0], int(re.findall(r"\d+", name)[0])


class Threads:
    """Registers and memory of some blocks of a launch."""

    def __init__(
        self,
        kernel: Kernel,
        data: bytes,
        grid: tuple[int, ...],
        size: int,
        blocks: np.ndarray,
        memory: Global,
        shared: Shared,
    ) -> None:
        self.kernel, self.data, self.memory, self.shared = kernel, data, memory, shared
        self.unsettled = Unsettled(size)
        self.count = size * len(blocks)
        self.copies: list[list[Any]] = [[]]  # groups of asynchronous copies, the last one open (ptx_async.py)
        self.block = np.repeat(np.arange(len(blocks)), size)
        self.thread = np.tile(np.arange(size), len(blocks))
        block = np.repeat(blocks, size)
        self.special = {
            "%tid.x": self.thread,
            "%ctaid.x": block % grid[0],
            "%ctaid.y": block // grid[0] % grid[1],
            "%ctaid.z": block // (grid[0] * grid[1]),
            **{f"%nctaid.{axis}": np.full(self.count, n) for axis, n in zip("xyz", grid, strict=True)},
        }
        self.registers: dict[str, Any] = {
            name: np.zeros(self.count, bool if bits == 1 else UNSIGNED[bits])
            for name, bits in kernel.registers.items()
        }

    def load(self, block: np.ndarray, thread: np.ndarray, address: np.ndarray, size: int) -> np.ndarray:
        data = self.memory.load(address, size)
        self.unsettled.load(block, thread, address, size)
        return data

    def store(self, block: np.ndarray, thread: np.ndarray, address: np.ndarray, data: np.ndarray) -> None:
        self.memory.store(address, data)
        self.unsettled.store(block, thread, address, data.shape[1])

    def whole_blocks(self, waiting: np.ndarray, alive: np.ndarray) -> np.ndarray:
        blocks = len(self.shared.data)
        here = np.bincount(self.block, waiting, blocks) == np.bincount(self.block, alive, blocks)
        return here[self.block]

    def whole_warps(self, mask: np.ndarray) -> bool:
        """Whether every warp is in the mask with all of its lanes or with none; blocks are whole
        warps."""
        lanes = mask.reshape(-1, 32).sum(1)
        return bool(((lanes == 0) | (lanes == 32)).all())

    def value(self, operand: str, kind: str, bits: int) -> Any:
        if operand.startswith("!"):
            return ~self.registers[operand[1:]]
        if operand in self.registers:
            raw = self.registers[operand]
            if kind == "p":
                return raw
        elif operand in self.special:
            raw = self.special[operand].astype(np.uint32)
        elif operand in self.kernel.shared:
            return np.full(self.count, self.kernel.shared[operand], UNSIGNED[bits])
        elif operand in self.kernel.parameters:
            return np.full(self.count, self.kernel.parameters[operand][0], UNSIGNED[bits])
        elif re.match(r"0[fFdD]", operand):
            raw = np.full(self.count, int(operand[2:], 16), UNSIGNED[4 * len(operand[2:])])
        elif kind == "p":
            return np.full(self.count, int(operand) != 0)
        else:
            raw = np.full(self.count, int(operand, 0) % (1 << bits), UNSIGNED[bits])
        raw = raw if raw.dtype.itemsize * 8 == bits else raw.astype(UNSIGNED[bits])
        return raw.view({"s": SIGNED, "f": FLOAT}.get(kind, UNSIGNED)[bits])

    def put(self, name: str, value: Any, mask: np.ndarray) -> None:
        if name == "_":
            return
        register = self.registers[name]
        if value.dtype != register.dtype:
            same = value.dtype.itemsize == register.dtype.itemsize
            value = value.view(register.dtype) if same else value.astype(register.dtype)
        np.copyto(register, value, where=mask)

    def address(self, operand: str) -> np.ndarray:
        found = re.match(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\d+)\s*)?\]", operand)
        if found is None:
            raise PtxError(f"cannot read the address {operand}")
        return self.value(found[1], "u", 64) + np.array(int(found[2] or 0)).astype(np.uint64)
