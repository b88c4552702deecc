"""The cost of a compiled kernel, read off its code: resources, and instructions an element by the
rules of throughput.py."""

from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import loops
import throughput
import triton
from compiled import Launch

# The kernels of the dense targets, which may fuse multiply and add. finish_kernel also takes a
# step, whose bits are promised: the tests that execute its PTX compare them.
FUSED = ("gather_kernel", "product_kernel", "finish_kernel", "network_chain_kernel", "network_hvp_kernel")

# The small kernels, whose threads have a number a sample: they have no tiles.
UNTILED = (
    *("step_rows", "loss_rows", "add_samples", "add_tiles", "add_energies", "decide_kernel"),
    *("probability_kernel", "average_kernel", "count_kernel", "fold_kernel", "mean_kernel"),
    *("size_kernel", "common_size_kernel"),
)

_BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


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
    serial: float  # the same in issue slots, one after the other
    concurrent: float  # in those of the slowest unit
    slowest: str
    forbidden: list[str]
    code: str = ""  # of the kernel and of the rules that it was counted by
    parts: dict[str, float] = field(
        default_factory=dict
    )  # of a dense target's product: the instructions of each loop


def _tool(name: str, *arguments: str) -> str:
    return subprocess.run([_BIN / name, *arguments], check=True, capture_output=True, text=True).stdout


def code_of(ptx: str) -> str:
    """A digest of a kernel without its line numbers, and of the rules by which one is counted."""
    digest = hashlib.sha256(triton.__version__.encode())
    for name in ("loops.py", "measure.py", "throughput.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    ptx = ptx.partition("\t.section\t.debug")[0]
    digest.update(re.sub(r"^\s*\.(?:file|loc)\b.*\n", "", ptx, flags=re.M).encode())
    return digest.hexdigest()[:16]


def _forbidden(ptx: str, fused: bool) -> list[str]:
    """Instructions that would change the promised bits; where sums may be fused, those that would
    round a factor."""
    # sm_80 has no sum of bfloat16 numbers, so a 1 + b stands for a + b; both are rounded once.
    ones = "|".join(re.findall(r"mov\.b16\s+%(rs\d+), 0x3F80;", ptx)) or "none"
    ptx = re.sub(rf"fma\.rn\.bf16(\s+%rs\d+, %rs\d+, %(?:{ones}), )", r"add.rn.bf16\1", ptx)
    wrong = r"approx|ftz|full\.|^w?g?mma.*(tf32|f16)" if fused else r"^fma|approx|ftz|full\."
    return sorted(
        {op for op in re.findall(r"^\s*(?:@!?%p\d+ )?([a-z][\w.]*)", ptx, re.M) if re.search(wrong, op)}
    )


def _elements_a_thread(launch: Launch) -> tuple[float, int]:
    """(elements that a thread makes in one turn of its loop, turns); (1, 1) for the small kernels
    without tiles."""
    if "TILE" not in launch.arguments:
        return 1, 1
    threads = launch.compiled.metadata.target.warp_size * launch.compiled.metadata.num_warps
    # A chain's loop counts steps: one step is measured, and one tile of a long sample.
    return launch.arguments[
        "TILE"
    ].elements / threads, 1 if "n_steps" in launch.arguments else launch.arguments["turns"]


def _usual(launch: Launch, lines: list[str], hot: list[str], elements: float, turns: int) -> throughput.Count:
    # Each turn of the loop draws normals, which takes the square roots in the code. In a loop that
    # draws nothing, its stores are counted instead.
    pattern = throughput.ROOT if any(re.search(throughput.ROOT, line) for line in hot) else r"\bSTG\b"
    once = sum(bool(re.search(pattern, line)) for line in hot)
    wanted = {pattern: once * turns}
    if launch.arguments.get("spare") is not None:  # the path must not leave out the loop that sums
        wanted[r"\bSTS\b"] = sum(bool(re.search(r"\bSTS\b", line)) for line in hot)
    return throughput.count(throughput.usual_path(lines, wanted), elements * turns)


def nvidia(launch: Launch, counted: bool = True, known: str = "") -> Cost:
    """counted: whether to count instructions, which takes as long as a compilation. Those of code
    that is ``known``, whose digest this is, are not counted."""
    compiled = launch.compiled
    elements, turns = _elements_a_thread(launch)
    ptx = compiled.asm["ptx"]
    code = code_of(ptx)
    counted = counted and code != known
    shares: dict[str, float] = {}
    cost, lines = throughput.Count(0, 0, 0, ""), []
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        usage = {
            key: int(value)
            for key, value in re.findall(
                r"(REG|STACK|SHARED|LOCAL):(\d+)", _tool("cuobjdump", "-res-usage", cubin.name)
            )
        }
        local = usage["STACK"] + usage["LOCAL"]
        if counted or local:
            (lines,) = throughput.functions(_tool("nvdisasm", "-c", "-ndf", cubin.name)).values()
    if counted:
        cost, shares = _counted(launch, lines, elements, turns)
    wide = len(re.findall(r"(?:ld|st)\.global\S*\.(?:v4\.b32|v2\.b64)", ptx))
    return Cost(
        registers=usage["REG"],
        shared=compiled.metadata.shared,
        local=local,
        local_accesses=sum(
            throughput.opcode(line) in ("LDL", "STL") for line in lines if not line.endswith(":")
        ),
        wide=wide,
        narrow=len(re.findall(r"(?:ld|st)\.global", ptx)) - wide,
        bytes_per_element=16 * wide / elements,
        instructions=cost.instructions,
        serial=cost.serial,
        concurrent=cost.concurrent,
        slowest=cost.slowest,
        forbidden=_forbidden(ptx, fused=launch.name in FUSED),
        code=code,
        parts=shares,
    )


def _counted(
    launch: Launch, lines: list[str], elements: float, turns: int
) -> tuple[throughput.Count, dict[str, float]]:
    """The instructions for an element, and of a dense target's product those of each loop."""
    if launch.name in ("gather_kernel", "product_kernel"):
        made, products, shares = loops.path(lines, launch)
        return throughput.count(made, products), shares
    hot = list(
        itertools.takewhile(lambda line: not line.startswith("$"), lines)
    )  # the square root's slow path follows
    return _usual(launch, lines, hot, elements, turns), {}


def amd(launch: Launch) -> Cost:
    """Resources only: there is no model of an AMD card here."""
    compiled = launch.compiled
    elements, _ = _elements_a_thread(launch)
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
        bytes_per_element=16 * wide / elements,
        instructions=len(re.findall(r"^\s+[vs]_\w+", text, re.M)) / elements,
        serial=0.0,
        concurrent=0.0,
        slowest="",
        forbidden=["contract"] if re.search(r"\bcontract\b", compiled.asm["llir"]) else [],
    )
