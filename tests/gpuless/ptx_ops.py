"""The instructions that ptx.py knows, each on a vector of threads.

Arithmetic is numpy's, which is IEEE 754 as ``.rn`` asks. A fused multiply-add is computed as such (through float64, float32 only),
so that a kernel with one shows other bits than the contract's, as it would on a device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ptx_memory import PtxError
from ptx_threads import FLOAT, SIGNED, UNSIGNED, Threads, type_of

DONE = object()
_ARITHMETIC = {"add": np.add, "sub": np.subtract, "min": np.minimum, "max": np.maximum}
_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
_COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}


def _names(operand: str) -> list[str]:
    return [name.strip() for name in operand.strip("{}").split(",")]


def _memory(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> None:
    bits = type_of(op[-1])[1]
    width = bits // 8
    if "param" in op:
        name, _, offset = operands[1].strip("[] ").partition("+")
        at = threads.kernel.parameters[name.strip()][0] + int(offset or 0)
        raw = np.frombuffer(threads.data[at : at + width], UNSIGNED[bits])
        return threads.put(operands[0], np.full(threads.count, raw[0]), mask)
    chosen = np.nonzero(mask)[0]
    if not len(chosen):
        return None
    is_load = op[0] == "ld"
    names = _names(operands[0 if is_load else 1])
    address = threads.address(operands[1 if is_load else 0])[chosen]
    size = width * len(names)
    lane = threads.block[chosen], threads.thread[chosen]
    if is_load:
        data = threads.shared.load(*lane, address, size) if "shared" in op else threads.memory.load(address, size)
        words = np.ascontiguousarray(data).view(UNSIGNED[bits])
        for k, name in enumerate(names):
            threads.registers[name][chosen] = words[:, k]
        return None
    data = np.stack([threads.value(name, "u", bits)[chosen] for name in names], axis=1).view(np.uint8)
    if "shared" in op:
        threads.shared.store(*lane, address, data)
    else:
        threads.memory.store(address, data)
    return None


def _to_bfloat16(x: np.ndarray) -> np.ndarray:
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded).astype(np.uint16)


def _half(x: np.ndarray, kind: str) -> np.ndarray:
    return _to_bfloat16(x) if kind.startswith("bf16") else x.astype(np.float16).view(np.uint16)


def _convert(threads: Threads, op: list[str], operands: list[str]) -> np.ndarray:
    to, source = op[-2], op[-1]
    if to in ("bf16x2", "f16x2"):
        high, low = (_half(threads.value(name, "f", 32), to).astype(np.uint32) for name in operands[1:])
        return high << np.uint32(16) | low
    if to in ("bf16", "f16"):
        return _half(threads.value(operands[1], "f", 32), to)
    if source == "bf16":
        return threads.value(operands[1], "u", 16).astype(np.uint32) << np.uint32(16)
    value = threads.value(operands[1], *type_of(source))
    kind, bits = type_of(to)
    if kind != "f" and source.startswith("f"):
        raise PtxError("float to integer is not known here")
    return value.astype({"s": SIGNED, "f": FLOAT}.get(kind, UNSIGNED)[bits])


def _shuffle(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> np.ndarray:
    warps = mask.reshape(-1, 32)
    if op[2] not in ("bfly", "idx") or (warps.any(1) != warps.all(1)).any():
        raise PtxError("only a shuffle of whole warps, by butterfly or index, is known here")
    value, lane = threads.value(operands[1], "u", 32), threads.value(operands[2], "u", 32).astype(np.int64) % 32
    thread = np.arange(threads.count)  # blocks are whole warps
    return value[thread ^ lane if op[2] == "bfly" else thread // 32 * 32 + lane]


def _redux(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> np.ndarray:
    if op[2] not in ("min", "max") or not mask.reshape(-1, 32).any(1).all():
        raise PtxError("only the smallest or largest of whole warps is known here")
    values = threads.value(operands[1], *type_of(op[-1])).reshape(-1, 32)
    return np.repeat(values.min(1) if op[2] == "min" else values.max(1), 32)


def _matrix(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> object:
    """ldmatrix and stmatrix of 8 x 8 elements of 16 bits: lanes 8 m to 8 m + 7 give the rows' addresses of matrix m, and lane t has
    the elements 2 (t mod 4) and the next of row t div 4, in register m."""
    warps = mask.reshape(-1, 32)
    if "trans" in op or op[-1] != "b16" or (warps.any(1) != warps.all(1)).any():
        return None
    load = op[0] == "ldmatrix"
    address, names = (operands[1], operands[0]) if load else (operands[0], operands[1])
    rows = threads.address(address)
    chosen = np.nonzero(mask)[0]
    lane = chosen % 32
    for m, name in enumerate(_names(names)):
        at = rows[chosen - lane + 8 * m + lane // 4] + (4 * (lane % 4)).astype(np.uint64)
        who = threads.block[chosen], threads.thread[chosen]
        if load:
            data = np.ascontiguousarray(threads.shared.load(*who, at, 4)).view(np.uint32)
            threads.registers[name][chosen] = data[:, 0]
        else:
            threads.shared.store(*who, at, threads.value(name, "u", 32)[chosen, None].view(np.uint8))
    return DONE


def _multiply(threads: Threads, op: list[str], operands: list[str], kind: str, bits: int) -> np.ndarray:
    a, b = threads.value(operands[1], kind, bits), threads.value(operands[2], kind, bits)
    if kind == "f":
        return a * b
    if "wide" in op:
        kind_of = (SIGNED if kind == "s" else UNSIGNED)[2 * bits]
        product = a.astype(kind_of) * b.astype(kind_of)
        return product + threads.value(operands[3], kind, 2 * bits) if op[0] == "mad" else product
    if "hi" in op:
        if bits != 32:
            raise PtxError("the high half of a 64-bit product is not known here")
        wide = SIGNED[64] if kind == "s" else UNSIGNED[64]
        return ((a.astype(wide) * b.astype(wide)) >> wide(32)).astype(UNSIGNED[32])
    return a * b + threads.value(operands[3], kind, bits) if op[0] == "mad" else a * b


def _shift(threads: Threads, op: list[str], operands: list[str], kind: str, bits: int) -> np.ndarray:
    value = threads.value(operands[1], kind, bits)
    count = threads.value(operands[2], "u", 32)
    inside = np.minimum(count, bits - 1).astype(value.dtype)
    if op[0] == "shl":
        return np.where(count < bits, value << inside, value.dtype.type(0))
    return np.where((count < bits) | (kind == "s"), value >> inside, value.dtype.type(0))


def _permute(threads: Threads, operands: list[str]) -> np.ndarray:
    low, high = (threads.value(name, "u", 32).astype(np.uint64) for name in operands[1:3])
    both, selector = high << np.uint64(32) | low, int(operands[3].rstrip("U"), 0)
    picked = [(both >> np.uint64(8 * (selector >> 4 * k & 7)) & np.uint64(255)) << np.uint64(8 * k) for k in range(4)]
    return sum(picked[1:], picked[0]).astype(np.uint32)


def _compare(how: str, a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """Ordered comparisons of floats are false for NaN; unordered ones, which end in u, true."""
    if kind != "f":
        return _COMPARE[how](a, b)
    nan = np.isnan(a) | np.isnan(b)
    return _COMPARE[how[:2]](a, b) | nan if len(how) == 3 else _COMPARE[how](a, b) & ~nan


def execute(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> object:
    """Run one instruction for the threads of ``mask``; DONE, or None where it is not known."""
    name = op[0]
    if name in ("ld", "st"):
        _memory(threads, op, operands, mask)
        return DONE
    if name in ("ldmatrix", "stmatrix"):
        return _matrix(threads, op, operands, mask)
    if op[:3] == ["bar", "warp", "sync"]:
        threads.shared.warp_barrier(np.unique(threads.block[mask]), threads.thread[mask])
        return DONE
    if name == "redux":
        return threads.put(operands[0], _redux(threads, op, operands, mask), mask) or DONE
    if op[-1] != "pred" and not any(digit in op[-1] for digit in "123468"):
        return None
    kind, bits = type_of(op[-1])

    def value(k: int) -> Any:
        return threads.value(operands[k], kind, bits)

    if name == "mov" and "{" in operands[0]:
        parts = _names(operands[0])
        width = bits // len(parts)
        whole = threads.value(operands[1], "u", bits)
        for k, part in enumerate(parts):
            threads.put(part, (whole >> UNSIGNED[bits](k * width)).astype(UNSIGNED[width]), mask)
        return DONE
    if name == "mov" and "{" in operands[1]:
        width = bits // len(_names(operands[1]))
        words = [
            threads.value(part, "u", width).astype(UNSIGNED[bits]) << UNSIGNED[bits](k * width)
            for k, part in enumerate(_names(operands[1]))
        ]
        result = np.bitwise_or.reduce(words)
    elif name == "mov":
        result = value(1)
    elif name == "cvt":
        result = _convert(threads, op, operands)
    elif name == "shfl":
        result = _shuffle(threads, op, operands, mask)
        return threads.put(operands[0].split("|")[0], result, mask) or DONE
    elif name == "setp":
        result = _compare(op[1], value(1), value(2), kind)
    elif name == "selp":
        result = np.where(
            threads.value(operands[3], "p", 1), threads.value(operands[1], "u", bits), threads.value(operands[2], "u", bits)
        )
    elif name in _LOGIC:
        result = _LOGIC[name](value(1), value(2))
    elif name in ("mul", "mad"):
        result = _multiply(threads, op, operands, kind, bits)
    elif name == "fma" and bits == 32:
        result = (value(1).astype(np.float64) * value(2) + value(3)).astype(np.float32)
    elif name in _ARITHMETIC:
        result = _ARITHMETIC[name](value(1), value(2))
    elif name == "div" and kind == "f":
        result = value(1) / value(2)
    elif name in ("div", "rem") and kind == "u":
        divisor = np.maximum(value(2), value(2).dtype.type(1))  # of threads that are not here it may be 0
        result = value(1) // divisor if name == "div" else value(1) % divisor
    elif name == "sqrt" and "rn" in op:
        result = np.sqrt(value(1))
    elif name == "neg":
        result = -value(1)
    elif name == "abs":
        result = np.abs(value(1))
    elif name == "not":
        result = ~value(1)
    elif name in ("shl", "shr"):
        result = _shift(threads, op, operands, kind, bits)
    elif name == "bfe":
        at, width = int(operands[2], 0), int(operands[3].rstrip("U"), 0)
        up = value(1).dtype.type(bits - width - at)
        result = (value(1) << up) >> value(1).dtype.type(bits - width)
    elif name == "prmt":
        result = _permute(threads, operands)
    else:
        return None
    threads.put(operands[0], result, mask)
    return DONE
