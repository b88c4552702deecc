"""Runs the PTX that Triton and nvcc emit, with numpy: the compiled meaning of a kernel, on a
machine without a GPU.

All threads of some blocks are one vector; where they part ways, the group with the smallest program
counter goes first. Every access is checked for the tensors' bounds, for alignment, and for races
between barriers: in shared memory for all races, in global memory for reads of another thread's
writes. Errors name the kernel's source line. Instructions that Triton and nvcc do not emit for
kernels like ours are refused, not guessed (ptx_ops.py).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ptx_memory import Global, PtxError, Shared
from ptx_ops import DONE, execute
from ptx_threads import Threads
from torch import Tensor

_BATCH = 4096  # threads of a vector: whole blocks, at least one


@dataclass
class Instruction:
    predicate: str | None
    negated: bool
    op: list[str]
    operands: list[str]
    where: str
    text: str


@dataclass
class Kernel:
    name: str
    parameters: dict[str, tuple[int, int]] = field(default_factory=dict)  # offset, bytes
    size: int = 0
    registers: dict[str, int] = field(default_factory=dict)  # bits; 1 is a predicate
    labels: dict[str, int] = field(default_factory=dict)
    code: list[Instruction] = field(default_factory=list)
    shared: dict[str, int] = field(default_factory=dict)  # where each array begins
    shared_size: int = 0  # of the arrays whose size is known


def _operands(text: str) -> list[str]:
    """Split at the commas outside of braces."""
    return [part.strip() for part in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,{\[])+", text) if part.strip()]


def _up_to_brace(text: str) -> str:
    """The text before the closing brace."""
    depth = 1
    for brace in re.finditer(r"[{}]", text):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[: brace.start()]
    raise PtxError("a kernel without an end")


def parse(text: str, name: str = r"[\w$]+") -> Kernel:
    """The kernel ``name`` of a PTX module, or the module's only kernel."""
    text = re.sub(r"//[^\n]*", "", text)
    files = {
        number: path.rsplit("/", 1)[-1] for number, path in re.findall(r'\.file\s+(\d+)\s+"([^"]+)"', text)
    }
    found = re.search(rf"\.entry\s+({name})\s*\((.*?)\)[^{{]*\{{", text, re.S)
    if found is None:
        raise PtxError(f"there is no kernel {name} in this PTX")
    kernel, body = Kernel(found[1]), _up_to_brace(text[found.end() :])
    kernel.shared = dict.fromkeys(re.findall(r"\.extern \.shared \.align \d+ \.b8 ([\w$]+)\[\]", text), 0)
    for align, array, size in re.findall(r"(?<!extern )\.shared \.align (\d+) \.b8 ([\w$]+)\[(\d+)\]", text):
        kernel.shared[array] = -(-kernel.shared_size // int(align)) * int(align)
        kernel.shared_size = kernel.shared[array] + int(size)
    one = r"\.param\s+(?:\.align (\d+)\s+)?\.(\w+)[^,]*?([\w$]+)(?:\[(\d+)\])?\s*(?:,|$)"
    for align, kind, parameter, count in re.findall(one, found[2].strip()):
        size = int(re.sub(r"\D", "", kind)) // 8 * int(count or 1)
        kernel.size = -(-kernel.size // int(align or size)) * int(align or size)
        kernel.parameters[parameter] = (kernel.size, size)
        kernel.size += size
    where = ""
    for raw in re.split(r";|\n(?=\s*\.loc\s)|\n(?=\s*\$)|(?<=:)\n", re.sub(r"(\.loc\s[^\n]*)", r"\1;", body)):
        line = " ".join(raw.split())
        while label := re.match(r"([\w$]+):\s*", line):
            kernel.labels[label[1]] = len(kernel.code)
            line = line[label.end() :]
        line = line.lstrip("{} ")  # a scope's
        if not line:
            continue
        if line.startswith(".loc "):
            _, file, number, *_ = line.split()
            where = f"{files.get(file, file)}:{number}"
        elif line.startswith(".reg "):
            _, kind, names = line.split(" ", 2)
            bits = 1 if kind == ".pred" else int(re.sub(r"\D", "", kind))
            for name, count in re.findall(r"([%\w$]+)(?:<(\d+)>)?", names):
                kernel.registers |= {f"{name}{k}": bits for k in range(int(count))} if count else {name: bits}
        elif not line.startswith("."):
            parts = re.match(r"(?:@(!?)([%\w$]+)\s+)?([\w.:]+)\s*(.*)$", line)
            if parts is None:
                raise PtxError(f"{kernel.name}: cannot read {line!r}")
            kernel.code.append(
                Instruction(parts[2], bool(parts[1]), parts[3].split("."), _operands(parts[4]), where, line)
            )
    return kernel


def _packed(kernel: Kernel, arguments: list[Any]) -> bytes:
    data = bytearray(kernel.size)
    values = arguments + [0] * (
        len(kernel.parameters) - len(arguments)
    )  # Triton's scratch pointers come last
    for (offset, size), value in zip(kernel.parameters.values(), values, strict=True):
        if isinstance(value, bytes):
            data[offset : offset + size] = value
        elif isinstance(value, float):
            struct.pack_into("<f" if size == 4 else "<d", data, offset, value)
        else:
            number = value.data_ptr() if isinstance(value, Tensor) else int(value)
            data[offset : offset + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(data)


def launch(
    text: str | Kernel,
    grid: tuple[int, ...],
    threads: int,
    arguments: list[Any],
    shared: int = 0,
    blocks: Sequence[int] | None = None,
    memory: Global | None = None,
) -> None:
    """Run the kernel over its grid, or only ``blocks`` of it, on the tensors among ``arguments``,
    or in ``memory``, in place."""
    kernel = text if isinstance(text, Kernel) else parse(text)
    data = _packed(kernel, arguments)
    memory = memory or Global.holding([value for value in arguments if isinstance(value, Tensor)])
    shared += kernel.shared_size
    x, y, z = (*grid, 1, 1)[:3]
    at_once = max(1, _BATCH // threads)
    with np.errstate(all="ignore"):
        every = np.arange(x * y * z) if blocks is None else np.array(blocks)
        for first in range(0, len(every), at_once):
            some = every[first : first + at_once]
            _run(kernel, Threads(kernel, data, (x, y, z), threads, some, memory, Shared(len(some), shared)))


def _run(kernel: Kernel, threads: Threads) -> None:
    groups = {0: np.ones(threads.count, bool)}
    alive, waiting, barrier = np.ones(threads.count, bool), np.zeros(threads.count, bool), 0

    def join(at: int, mask: np.ndarray) -> None:
        if mask.any():
            groups[at] = groups[at] | mask if at in groups else mask

    while groups or waiting.any():
        if not groups:
            raise PtxError(f"{kernel.name}: threads wait at a barrier for others that will not come")
        at = min(groups)
        mask = groups.pop(at)
        if at == len(kernel.code):
            alive &= ~mask
            continue
        step = kernel.code[at]
        chosen = mask
        if step.predicate is not None:
            chosen = mask & (threads.registers[step.predicate] ^ step.negated)
        try:
            if step.op[0] == "bra":
                join(kernel.labels[step.operands[0]], chosen)
                join(at + 1, mask & ~chosen)
            elif step.op[0] == "ret":
                alive &= ~chosen
                join(at + 1, mask & ~chosen)
            elif step.op[:3] == ["bar", "warp", "sync"]:
                if not threads.whole_warps(chosen):
                    raise PtxError("only barriers of whole warps are known here")
                for touched in (threads.shared, threads.unsettled):
                    touched.warp_barrier(threads.block[chosen], threads.thread[chosen])
                join(at + 1, mask)
            elif step.op[:2] == ["bar", "sync"]:
                waiting |= chosen
                barrier = at
            else:
                if execute(threads, step.op, step.operands, chosen) is not DONE:
                    raise PtxError("this instruction is not known here")
                join(at + 1, mask)
        except PtxError as error:
            raise PtxError(f"{kernel.name} at {step.where}: {error} ({step.text})") from None
        ready = waiting & threads.whole_blocks(waiting, alive)
        if ready.any():
            waiting &= ~ready
            for touched in (threads.shared, threads.unsettled):
                touched.barrier(np.unique(threads.block[ready]))
            join(barrier + 1, ready)
