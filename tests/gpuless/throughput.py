"""A model of a kernel's speed on a GPU that nobody has at hand: the instructions that the machine
code (nvdisasm -c) executes on its usual path, and the time that an H100 would take for them. The
same rules count Triton's and nvcc's kernels; nothing here was timed.

**The count.** The usual path is the shortest one from a kernel's entry to its end that does the
kernel's work: so many stores, so many reciprocal square roots (one for every two normals). It
leaves out code for odd cases: scalar edges, the square root's slow path. Loops count by their
turns.

**The cost.** An instruction takes 128 / (results a clock and multiprocessor) issue slots of a lane,
by the table "Throughput of Native Arithmetic Instructions" of NVIDIA's CUDA C++ Programming Guide,
compute capability 9.0. A wide product (IMAD.WIDE) is two results of 32 bits, so it takes four
slots, not two. Instructions that the table does not name (memory, moves) cost by the width of the
unit that runs them. ptxas knows the rates too and spaces instructions by them: test_throughput.py
compares this table with that spacing.

**The two predictions.** *Serial*: all slots one after the other; the gates' targets are measured
against this. *Concurrent*: the units work side by side, as they do; the slowest of them, or the
scheduler (one instruction a clock), decides. The truth lies between.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from dataclasses import dataclass, field

# An H100 SXM: 132 multiprocessors at 1.755 GHz, each of which issues to 128 lanes a clock; 3.35
# TB/s.
FULL_RATE = 128
LANES_A_SECOND = 132 * FULL_RATE * 1.755e9
BYTES_A_SECOND = 3.35e12

# For each unit: the lanes that it serves in a clock, and its instructions. Other instructions only
# take an issue slot: branches, barriers of convergence, and the uniform unit's, once for a warp.
_UNITS = {
    "fma": (128, "FADD FMUL FFMA HFMA2 HADD2 HMUL2"),
    "imad": (64, "IMAD"),  # one half of the fma unit
    "wide": (32, "IMAD.WIDE IMAD.HI"),  # by the same half
    "alu": (
        64,
        (
            "LOP3 PLOP3 IADD3 IADD VIADD SHF LEA ISETP FSETP SEL FSEL PRMT MOV I2FP F2FP P2R R2P VOTE SGXT"
            " BFE IABS IMNMX FMNMX VIMNMX CS2R"
        ),
    ),
    "fp64": (64, "DADD DMUL DFMA DSETP"),
    "xu": (16, "MUFU I2F F2F F2I I2I POPC FLO BREV S2R"),
    "lsu": (32, "LDG STG LDS STS LDL STL LDC LDSM STSM SHFL BAR ATOM ATOMS ATOMG RED"),
}
_UNIT_OF = {op: unit for unit, (_, ops) in _UNITS.items() for op in ops.split()}


def opcode(instruction: str) -> str:
    """The opcode: LOP3 in "@!P0 LOP3.LUT R0, ..."."""
    return re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0].split(".")[0]


def unit(instruction: str) -> str:
    wide = re.search(r"\bIMAD\.(?:WIDE|HI)\b", instruction)
    return _UNIT_OF.get(wide[0] if wide else opcode(instruction), "none")


def slots(instruction: str) -> int:
    """Issue slots of a lane at the full rate that an instruction takes."""
    return FULL_RATE // _UNITS[found][0] if (found := unit(instruction)) in _UNITS else 1


@dataclass
class Count:
    """The cost of a path for one element."""

    instructions: float
    serial: float
    concurrent: float
    slowest: str  # the unit that decides the concurrent prediction, or "issue"


def count(path: list[str], elements: float) -> Count:
    """The cost of a thread's path through a kernel, for one of the ``elements`` that it makes."""
    busy = Counter({"issue": len(path)})
    for instruction in path:
        busy[unit(instruction)] += slots(instruction)
    busy["imad"] += busy.pop("wide", 0)
    serial = sum(taken for name, taken in busy.items() if name != "issue")
    busy["fma"] += busy["imad"] / 2  # half of that unit is taken
    busy.pop("none", None)
    slowest, most = max(busy.items(), key=lambda item: item[1])
    return Count(len(path) / elements, serial / elements, most / elements, slowest)


def share(bytes_an_element: float, slots_an_element: float) -> float:
    """The predicted share of the HBM floor: 1 where the memory is slower than the instructions."""
    return min(1.0, bytes_an_element / BYTES_A_SECOND / (slots_an_element / LANES_A_SECOND))


@dataclass
class _Block:
    code: list[str] = field(default_factory=list)
    next: list[int] = field(default_factory=list)


def functions(text: str) -> dict[str, list[str]]:
    """The lines of each function: instructions and labels."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        section = re.match(r"\.text\.(\S+):", line)
        if section:
            current = found.setdefault(section[1], [])
        elif label := re.match(r"(\.L_x_\d+|\$\S+):", line):
            current.append(label[1] + ":")
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line):
            current.append(instruction[1])
    return found


def _blocks(lines: list[str]) -> list[_Block]:
    """The control-flow graph; block -1 is the end."""
    made, names = [_Block()], {}
    for line in lines:
        if line.endswith(":"):
            if made[-1].code:
                made.append(_Block())
            names[line[:-1]] = len(made) - 1
            continue
        made[-1].code.append(line)
        if opcode(line) in ("BRA", "EXIT", "RET", "CALL"):
            made.append(_Block())
    for index, block in enumerate(made):
        last = block.code[-1] if block.code else ""
        name, conditional = (opcode(last) if last else ""), bool(re.search(r"^@|BRA\S*\s+!?U?P\d", last))
        target = re.search(r"`\(([^)]+)\)", last)
        if name in ("BRA", "CALL") and target and target[1] in names and not target[1].startswith("$"):
            block.next.append(
                names[target[1]]
            )  # sm_80's compiler leaves some loops by a call that never comes back
        if name == "EXIT":
            block.next.append(-1)
        # A call of a function, $..., is the slow path of a square root.
        if (name not in ("BRA", "EXIT", "RET", "CALL") or conditional) and index + 1 < len(made):
            block.next.append(index + 1)
    return made


ROOT = r"\bMUFU\.RSQ\b"
WIDE_STORE = r"\bSTG\.\S*128\b"


def usual_path(lines: list[str], wanted: dict[str, int]) -> list[str]:
    """The instructions of the shortest path that executes exactly so many of each pattern:
    {WIDE_STORE: 2, ROOT: 4}."""
    graph = _blocks(lines)
    goal = tuple(wanted.values())
    does = [
        tuple(sum(bool(re.search(pattern, i)) for i in block.code) for pattern in wanted) for block in graph
    ]
    start = (0, (0,) * len(goal))
    best, came, queue = {start: 0}, {}, [(0, start)]
    while queue:
        cost, state = heapq.heappop(queue)
        index, done = state
        if index == -1:
            if done == goal:
                path = []
                while state in came:
                    state = came[state]
                    path.append(state[0])
                return [i for at in reversed(path) for i in graph[at].code]
            continue
        if cost > best[state]:
            continue
        done = tuple(map(int.__add__, done, does[index]))
        if any(have > want for have, want in zip(done, goal, strict=True)):
            continue
        for after in graph[index].next:
            reached = (after, done)
            total = cost + len(graph[index].code)
            if total < best.get(reached, 1 << 60):
                best[reached] = total
                came[reached] = state
                heapq.heappush(queue, (total, reached))
    raise ValueError(f"no path through the kernel does {wanted}")
