"""The operations that a warp's threads do together, for ptx_ops.py: shuffles, reductions, matrices
of shared memory."""

from __future__ import annotations

import numpy as np
from ptx_memory import PtxError
from ptx_threads import Threads, type_of


def names_of(operand: str) -> list[str]:
    return [name.strip() for name in operand.strip("{}").split(",")]


def shuffle(
    threads: Threads, op: list[str], operands: list[str], mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The values, and whether each came from the lane that was asked for."""
    if op[2] not in ("bfly", "idx", "down") or not threads.whole_warps(mask):
        raise PtxError("only a shuffle of whole warps, by butterfly, index or down, is known here")
    value, other, limit = (threads.value(name, "u", 32).astype(np.int64) for name in operands[1:4])
    thread = np.arange(threads.count)  # blocks are whole warps
    lane, segment = thread % 32, limit >> 8 & 31
    source = {"bfly": lane ^ other, "down": lane + other, "idx": lane & segment | other & ~segment & 31}[
        op[2]
    ]
    inside = source <= (lane & segment | limit & ~segment & 31)
    return value[np.where(inside, thread - lane + source, thread)].astype(np.uint32), inside


def redux(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> np.ndarray:
    if op[2] not in ("min", "max") or not (threads.whole_warps(mask) or mask.reshape(-1, 32).any(1).all()):
        raise PtxError("only the smallest or largest of whole warps is known here")
    values = threads.value(operands[1], *type_of(op[-1])).reshape(-1, 32)
    return np.repeat(values.min(1) if op[2] == "min" else values.max(1), 32)


def matrix(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> bool:
    """ldmatrix and stmatrix of 8 x 8 elements of 16 bits: lanes 8 m to 8 m + 7 give the rows'
    addresses of matrix m, and lane t has, in register m, the element 2 (t mod 4) of row t div 4 and
    the next one."""
    if "trans" in op or op[-1] != "b16" or not threads.whole_warps(mask):
        return False
    load = op[0] == "ldmatrix"
    address, names = (operands[1], operands[0]) if load else (operands[0], operands[1])
    rows = threads.address(address)
    chosen = np.nonzero(mask)[0]
    lane = chosen % 32
    for m, name in enumerate(names_of(names)):
        at = rows[chosen - lane + 8 * m + lane // 4] + (4 * (lane % 4)).astype(np.uint64)
        who = threads.block[chosen], threads.thread[chosen]
        if load:
            data = np.ascontiguousarray(threads.shared.load(*who, at, 4)).view(np.uint32)
            threads.registers[name][chosen] = data[:, 0]
        else:
            threads.shared.store(*who, at, threads.value(name, "u", 32)[chosen, None].view(np.uint8))
    return True


def product(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> bool:
    """mma.m8n8k4 of float64: D = A B + C, by fused multiply-adds. Lane t has A[t div 4, t mod 4],
    B[t mod 4, t div 4], and, in C and D, the element 2 (t mod 4) of row t div 4 and the next
    one."""
    if op[3:] != ["m8n8k4", "row", "col", "f64", "f64", "f64", "f64"] or not threads.whole_warps(mask):
        return False
    a, b = (
        threads.value(names_of(operands[k])[0], "f", 64).reshape(-1, 8, 4) for k in (1, 2)
    )  # B transposed
    c = [threads.value(name, "f", 64) for name in names_of(operands[3])]
    total = np.stack(c, axis=1).reshape(-1, 8, 8).astype(np.longdouble)
    for k in range(4):
        total = (
            (a[:, :, None, k].astype(np.longdouble) * b[:, None, :, k] + total)
            .astype(np.float64)
            .astype(np.longdouble)
        )
    parts = total.astype(np.float64).reshape(-1, 2)
    for i, name in enumerate(names_of(operands[0])):
        threads.put(name, np.ascontiguousarray(parts[:, i]), mask)
    return True
