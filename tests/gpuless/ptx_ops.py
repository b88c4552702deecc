"""The instructions that ptx.py knows, each on a vector of threads.

Arithmetic is numpy's, which is IEEE 754 as ``.rn`` asks. A fused multiply-add is computed as fused,
so that a kernel with one shows other bits than the contract's, as it would on a device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ptx_async import copy_async
from ptx_fused import fused, fused_double
from ptx_memory import PtxError
from ptx_threads import FLOAT, SIGNED, UNSIGNED, Threads, type_of
from ptx_warps import matrix, names_of, product, redux, shuffle

DONE = object()
_ARITHMETIC = {"add": np.add, "sub": np.subtract, "min": np.fmin, "max": np.fmax}
_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


def _otherwise(compare: Any) -> Any:
    return lambda a, b: ~compare(a, b)


_COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_COMPARE |= {"neu": np.not_equal}  # with u: true where an operand is NaN too
_OPPOSITE = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt"}
_COMPARE |= {f"{name}u": _otherwise(_COMPARE[opposite]) for name, opposite in _OPPOSITE.items()}
_COMPARE |= {"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}
_COMPARE |= {"num": lambda a, b: ~(np.isnan(a) | np.isnan(b)), "nan": lambda a, b: np.isnan(a) | np.isnan(b)}
_SHARED = 1 << 60  # where generic addresses see shared memory


def _memory(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> None:
    kind, bits = type_of(op[-1])
    width = bits // 8
    is_load = op[0] == "ld"
    names = names_of(operands[0 if is_load else 1])
    address = threads.address(operands[1 if is_load else 0])
    chosen = np.nonzero(mask)[0]
    if not len(chosen):
        return
    if "param" in op:
        every = np.frombuffer(threads.data, np.uint8)
        raw = every[address.astype(np.int64)[:, None] + np.arange(width * len(names))]
        words = np.ascontiguousarray(raw).view((SIGNED if kind == "s" else UNSIGNED)[bits])
        for k, name in enumerate(names):
            threads.put(
                name,
                words[:, k].astype(
                    (SIGNED if kind == "s" else UNSIGNED)[8 * threads.registers[name].itemsize]
                ),
                mask,
            )
        return
    shared = "shared" in op
    if not shared and "global" not in op:  # a generic address
        inside = address[chosen] >= _SHARED
        for there, space in ((inside, "shared"), (~inside, "global")):
            part = np.zeros_like(mask)
            part[chosen[there]] = True
            _memory(threads, [op[0], space, *op[1:]], operands, part)
        return
    address = address[chosen] % np.uint64(_SHARED)
    lane = threads.block[chosen], threads.thread[chosen]
    if is_load:
        size = width * len(names)
        data = threads.shared.load(*lane, address, size) if shared else threads.load(*lane, address, size)
        words = np.ascontiguousarray(data).view(UNSIGNED[bits])
        for k, name in enumerate(names):
            threads.registers[name][chosen] = words[:, k]
        return
    data = np.stack([threads.value(name, "u", bits)[chosen] for name in names], axis=1).view(np.uint8)
    if shared:
        threads.shared.store(*lane, address, data)
    else:
        threads.store(*lane, address, data)


def _atomic_min(threads: Threads, operands: list[str], bits: int, mask: np.ndarray) -> None:
    address, value = threads.address(operands[1])[mask], threads.value(operands[2], "u", bits)[mask]
    for one, least in zip(address, value, strict=True):
        before = threads.memory.load(np.array([one]), bits // 8).view(UNSIGNED[bits])
        threads.memory.store(np.array([one]), np.minimum(before, least).view(np.uint8))


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


def _high(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The upper half of unsigned 64-bit products."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    middle = (a & low) * (b & low) >> half
    first = (a >> half) * (b & low) + middle
    second = (a & low) * (b >> half) + (first & low)
    return (a >> half) * (b >> half) + (first >> half) + (second >> half)


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
            return _high(a, b)
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
    picked = [
        (both >> np.uint64(8 * (selector >> 4 * k & 7)) & np.uint64(255)) << np.uint64(8 * k)
        for k in range(4)
    ]
    return sum(picked[1:], picked[0]).astype(np.uint32)


def execute(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> object:
    """Run one instruction for the threads of ``mask``; DONE, or None where it is not known."""
    name = op[0]
    if name in ("ld", "st"):
        _memory(threads, op, operands, mask)
        return DONE
    if name in ("ldmatrix", "stmatrix"):
        return DONE if matrix(threads, op, operands, mask) else None
    if op[:2] == ["cp", "async"]:
        return DONE if copy_async(threads, op, operands, mask) else None
    if name == "mma":
        return DONE if product(threads, op, operands, mask) else None
    if name == "redux":
        return threads.put(operands[0], redux(threads, op, operands, mask), mask) or DONE
    if name == "cvta":  # only shared memory has another generic address
        window = np.uint64(_SHARED if op[1] == "shared" else 0)
        threads.put(operands[0], threads.value(operands[1], "u", 64) + window, mask)
        return DONE
    if name == "atom" and op[1:3] == ["global", "min"] and op[-1] == "u64":
        _atomic_min(threads, operands, 64, mask)  # no kernel asks for the value before
        return DONE
    if op[-1] != "pred" and not any(digit in op[-1] for digit in "123468"):
        return None
    kind, bits = type_of(op[-1])

    def value(k: int) -> Any:
        return threads.value(operands[k], kind, bits)

    if name == "mov" and "{" in operands[0]:
        parts = names_of(operands[0])
        width = bits // len(parts)
        whole = threads.value(operands[1], "u", bits)
        for k, part in enumerate(parts):
            threads.put(part, (whole >> UNSIGNED[bits](k * width)).astype(UNSIGNED[width]), mask)
        return DONE
    if name == "mov" and "{" in operands[1]:
        width = bits // len(names_of(operands[1]))
        words = [
            threads.value(part, "u", width).astype(UNSIGNED[bits]) << UNSIGNED[bits](k * width)
            for k, part in enumerate(names_of(operands[1]))
        ]
        result = np.bitwise_or.reduce(words)
    elif name == "mov":
        result = value(1)
    elif name == "cvt":
        result = _convert(threads, op, operands)
    elif name == "shfl":
        result, inside = shuffle(threads, op, operands, mask)
        for target, one in zip(operands[0].split("|"), (result, inside), strict=False):
            threads.put(target, one, mask)
        return DONE
    elif name == "setp":
        result = _COMPARE[op[1]](value(1), value(2))  # numpy's comparisons are ordered, except ne
        if op[1] == "ne" and kind == "f":
            result &= ~(np.isnan(value(1)) | np.isnan(value(2)))
    elif name == "selp":
        result = np.where(
            threads.value(operands[3], "p", 1),
            threads.value(operands[1], "u", bits),
            threads.value(operands[2], "u", bits),
        )
    elif name in _LOGIC:
        result = _LOGIC[name](value(1), value(2))
    elif name in ("mul", "mad"):
        result = _multiply(threads, op, operands, kind, bits)
    elif name == "fma" and bits == 32:
        result = fused(value(1), value(2), value(3))
    elif name == "fma" and bits == 64:
        result = fused_double(value(1), value(2), value(3))
    elif name == "rsqrt" and op[1:] == ["approx", "ftz", "f32"]:
        # PTX states an error of at most 2^-22.9 for rsqrt.approx, and a device may have any result
        # within it: here the error is random, another one for each thread.
        spread = 1 + np.exp2(-22.9) * np.random.default_rng(len(operands[0])).uniform(-1, 1, threads.count)
        result = (spread / np.sqrt(value(1).astype(np.float64))).astype(np.float32)
    elif name in _ARITHMETIC:
        result = _ARITHMETIC[name](value(1), value(2))
    elif name == "div" and kind == "f":
        result = value(1) / value(2)
    elif name in ("div", "rem") and kind == "u":
        divisor = np.maximum(value(2), value(2).dtype.type(1))  # it may be 0 in threads outside the mask
        result = value(1) // divisor if name == "div" else value(1) % divisor
    elif name == "sqrt" and "rn" in op:
        result = np.sqrt(value(1))
    elif name == "rcp" and "rn" in op:
        result = value(1).dtype.type(1) / value(1)
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
