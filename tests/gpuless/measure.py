"""What a compiled kernel costs, read off its code: resources, instructions an element, and from them a model of its speed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton

_BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"

# The model of an H100 SXM (a model: nothing here was measured): 132 SMs with four schedulers that issue to 32 lanes each clock.
BANDWIDTH = 3.35e12
LANES_A_SECOND = 132 * 128 * 1.755e9
# Issue slots that an instruction costs: 128 divided by the lanes a clock of the CUDA C++ Programming Guide's throughput table for
# compute capability 9.0. What is not listed costs one slot.
_PIPES = {
    "alu": (2, "LOP3 IADD3 SHF LEA ISETP SEL FSEL FSETP PRMT MOV I2FP F2FP P2R R2P PLOP3 VOTE SGXT IABS IMNMX FMNMX CS2R HFMA2"),
    "imad": (2, "IMAD"),
    "fp64": (2, "DADD DMUL DFMA DSETP"),
    "xu": (8, "MUFU F2F I2F F2I POPC"),
    "lsu": (4, "LDG STG LDS STS LDC SHFL BAR ATOM"),
    "fma": (1, "FADD FMUL FFMA"),
}
_PIPE_OF = {op: pipe for pipe, (_, ops) in _PIPES.items() for op in ops.split()}


@dataclass
class Cost:
    registers: int
    shared: int
    local: int  # bytes of stack and local memory
    local_accesses: int  # spills among them
    wide: int  # 128-bit global accesses a thread
    narrow: int  # other global accesses
    bytes_per_element: float  # by the 128-bit accesses: what an aligned tensor moves
    instructions: float  # an element
    weighted: float  # the same in issue slots
    slowest_pipe: str
    slots: float  # an element, of the slowest pipe
    forbidden: list[str]

    def share(self, slots: float) -> float:
        """The predicted share of the HBM floor: 1 where the memory is slower than the instructions."""
        return min(1.0, (self.bytes_per_element / BANDWIDTH) / (slots / LANES_A_SECOND))


def _tool(name: str, *arguments: str) -> str:
    return subprocess.run([_BIN / name, *arguments], check=True, capture_output=True, text=True).stdout


def _forbidden(ptx: str) -> list[str]:
    """Instructions that would change the promised bits."""
    return sorted(
        {op for op in re.findall(r"^\s*(?:@!?%p\d+ )?([a-z][\w.]*)", ptx, re.M) if re.search(r"^fma|approx|ftz|full\.", op)}
    )


def nvidia(compiled: Any, elements_a_thread: float) -> Cost:
    ptx = compiled.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        usage = {
            key: int(value)
            for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", _tool("cuobjdump", "-res-usage", cubin.name))
        }
        sass = _tool("nvdisasm", "-c", cubin.name)
    code = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", sass)
    # Behind the last unconditional EXIT lies only what is rarely called: the square root of what is not a normal number.
    end = next((k for k, (predicate, op) in enumerate(code) if op == "EXIT" and not predicate), len(code))
    hot = Counter(op.split(".")[0] for _, op in code[: end + 1] if op != "NOP")
    slots = Counter({"issue": sum(hot.values())})
    for op, count in hot.items():
        slots[_PIPE_OF.get(op, "other")] += count * _PIPES.get(_PIPE_OF.get(op, ""), (1, ""))[0]
    weighted = sum(count for pipe, count in slots.items() if pipe != "issue")
    pipe, most = max(slots.items(), key=lambda item: item[1])
    wide = len(re.findall(r"(?:ld|st)\.global\S*\.(?:v4\.b32|v2\.b64)", ptx))
    return Cost(
        registers=usage["REG"],
        shared=compiled.metadata.shared,
        local=usage["STACK"] + usage["LOCAL"],
        local_accesses=sum(op.startswith(("LDL", "STL")) for _, op in code),
        wide=wide,
        narrow=len(re.findall(r"(?:ld|st)\.global", ptx)) - wide,
        bytes_per_element=16 * wide / elements_a_thread,
        instructions=slots["issue"] / elements_a_thread,
        weighted=weighted / elements_a_thread,
        slowest_pipe=pipe,
        slots=most / elements_a_thread,
        forbidden=_forbidden(ptx),
    )


def amd(compiled: Any, elements_a_thread: float) -> Cost:
    """Resources only: there is no model of an AMD card here."""
    text = compiled.asm["amdgcn"]

    def number(key: str) -> int:
        return max((int(value) for value in re.findall(rf"\.{key}:\s+(\d+)", text)), default=0)

    wide = len(re.findall(r"(?:global|buffer)_(?:load|store)_(?:dwordx4|b128)", text))
    every = len(re.findall(r"(?:global|buffer)_(?:load|store)_", text))
    return Cost(
        registers=number("vgpr_count"),
        shared=compiled.metadata.shared,
        local=number("private_segment_fixed_size"),
        local_accesses=number("vgpr_spill_count") + number("sgpr_spill_count"),
        wide=wide,
        narrow=every - wide,
        bytes_per_element=16 * wide / elements_a_thread,
        instructions=len(re.findall(r"^\s+[vs]_\w+", text, re.M)) / elements_a_thread,
        weighted=0.0,
        slowest_pipe="",
        slots=0.0,
        forbidden=["contract"] if re.search(r"\bcontract\b", compiled.asm["llir"]) else [],
    )
