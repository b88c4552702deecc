"""What a kernel's machine code (nvdisasm -c) executes on its usual path, counted without a GPU.

The usual path is the shortest one from a kernel's entry to its end that does what the kernel is there for: so many 16-byte
stores, so many reciprocal square roots (one for every two normals). It leaves out what only odd cases take: scalar edges,
the square root's slow path, masks, per-sample tables. Loops count by their turns.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from dataclasses import dataclass, field

# Results a clock and multiprocessor assumed for compute capability 9.0, 128 being the full rate: a model, not measured.
_HALF = "IADD3 VIADD LOP3 PLOP3 SHF SEL FSEL ISETP FSETP PRMT LEA VIMNMX FMNMX IMNMX IMAD MOV I2FP POPC BFE SGXT IABS P2R R2P CS2R"
_SIXTEENTH = "MUFU I2F F2F F2I I2I S2R"  # 16 lanes: an eighth of the full rate
WEIGHTS = {**dict.fromkeys(_HALF.split(), 2), **dict.fromkeys(_SIXTEENTH.split(), 8), "F2FP": 2}
_FLOAT64 = ("DADD", "DMUL", "DFMA", "DSETP")  # 64 lanes
WEIGHTS |= dict.fromkeys(_FLOAT64, 2)


@dataclass
class Block:
    code: list[str] = field(default_factory=list)
    next: list[int] = field(default_factory=list)


def opcode(instruction: str) -> str:
    return re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0].split(".")[0]


def weight(instruction: str) -> int:
    """Issue slots at the full rate that an instruction takes; register moves by the multiplier count as moves."""
    return WEIGHTS.get(opcode(instruction), 1)


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


def blocks(lines: list[str]) -> list[Block]:
    """The control-flow graph; block -1 is the end."""
    made, names = [Block()], {}
    for line in lines:
        if line.endswith(":"):
            if made[-1].code:
                made.append(Block())
            names[line[:-1]] = len(made) - 1
            continue
        made[-1].code.append(line)
        if opcode(line) in ("BRA", "EXIT", "RET", "CALL"):
            made.append(Block())
    for index, block in enumerate(made):
        last = block.code[-1] if block.code else ""
        name, conditional = (opcode(last) if last else ""), bool(re.search(r"^@|BRA\S*\s+!?U?P\d", last))
        target = re.search(r"`\(([^)]+)\)", last)
        if name in ("BRA", "CALL") and target and target[1] in names and not target[1].startswith("$"):
            block.next.append(names[target[1]])  # sm_80's compiler leaves some loops by a call that never comes back
        if name == "EXIT":
            block.next.append(-1)
        # A call of a function, $..., is the slow path of a square root.
        if (name not in ("BRA", "EXIT", "RET", "CALL") or conditional) and index + 1 < len(made):
            block.next.append(index + 1)
    return made


def usual_path(lines: list[str], stores: int, roots: int, pieces: int = 1) -> list[str]:
    """The instructions of the shortest path that makes ``pieces`` times so many wide stores and square roots."""
    graph = blocks(lines)
    wanted = (stores * pieces, roots * pieces)

    def counts(block: Block) -> tuple[int, int]:
        wide = sum(bool(re.search(r"\bSTG\.\S*128", i)) for i in block.code)
        return wide, sum("MUFU.RSQ " in i for i in block.code)

    does = [counts(block) for block in graph]
    start = (0, 0, 0)
    best, came, queue = {start: 0}, {}, [(0, start)]
    while queue:
        cost, state = heapq.heappop(queue)
        index, wide, root = state
        if index == -1:
            if (wide, root) == wanted:
                path = []
                while state in came:
                    state = came[state]
                    path.append(state[0])
                return [i for at in reversed(path) for i in graph[at].code]
            continue
        if cost > best[state]:
            continue
        wide, root = wide + does[index][0], root + does[index][1]
        if wide > wanted[0] or root > wanted[1]:
            continue
        for after in graph[index].next:
            reached = (after, wide, root)
            total = cost + len(graph[index].code)
            if total < best.get(reached, 1 << 60):
                best[reached] = total
                came[reached] = state
                heapq.heappush(queue, (total, reached))
    raise ValueError(f"no path through the kernel makes {wanted[0]} wide stores and {wanted[1]} square roots")


def mix(path: list[str]) -> Counter[str]:
    return Counter(map(opcode, path))
