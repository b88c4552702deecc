"""The model's table of rates against what ptxas itself knows: it spaces instructions of one unit by
the clocks that they take."""

import itertools
import re
import subprocess
import tempfile
from collections import defaultdict

import measure
import network_gate
import pyebm.kernels
import pytest
import throughput
import torch
from compiled import compiling
from torch.utils._python_dispatch import TorchDispatchMode

import pyebm


@pytest.fixture(scope="module")
def scheduled():
    """(instruction, clocks until the next may issue) of a kernel's machine code, block by block."""
    with compiling("sm_90") as launches:
        pyebm.kernels.OPS["normal_"](torch.empty(4, 4096), pyebm.Noise(0)._name)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(launches[0].compiled.asm["cubin"])
        cubin.flush()
        done = subprocess.run(
            [measure._BIN / "nvdisasm", "-c", "-hex", cubin.name], capture_output=True, text=True, check=True
        )
    blocks, current = [[]], None
    for line in done.stdout.splitlines():
        if re.match(r"[.$]\S+:", line):
            blocks.append([])
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line):
            current = found[1]
        elif current and (word := re.search(r"/\* 0x([0-9a-f]{16}) \*/", line)):
            blocks[-1].append(
                (current, int(word[1], 16) >> 41 & 15)
            )  # the upper word's bits 41 to 44: the stall
            current = None
    return blocks


def test_the_compiler_spaces_instructions_as_the_table_says(scheduled):
    nearest = defaultdict(lambda: 99)
    for block in scheduled:
        last, clock = {}, 0
        for instruction, stall in block:
            unit = throughput.unit(instruction)
            if unit in last and not instruction.startswith("@"):
                nearest[unit] = min(nearest[unit], clock - last[unit])
            last[unit] = clock
            clock += stall
    # A warp runs on a quarter of the multiprocessor, so an instruction keeps its unit busy for as
    # many clocks as it takes slots of the whole.
    for unit, clocks in {"alu": 2, "wide": 4, "fma": 1}.items():
        assert nearest[unit] == clocks == throughput.FULL_RATE // throughput._UNITS[unit][0], unit


def test_conversions_of_32_bits_are_not_those_of_the_slow_unit(scheduled):
    """A barrier waits for an instruction of variable latency. None waits for I2FP, so I2FP runs on
    the ALU."""
    followers = [
        b
        for block in scheduled
        for (a, stall), (b, _) in itertools.pairwise(block)
        if a.startswith("I2FP") and stall == 1
    ]
    assert any("I2FP" in i for block in scheduled for i, _ in block)
    assert all(throughput.unit(follower) != "alu" for follower in followers)


CODE = """
.text.kernel:
        /*0000*/                   LDG.E.128 R0, desc[UR4][R2.64] ;
        /*0010*/                   MUFU.RSQ R4, R0 ;
        /*0020*/              @!P0 BRA `(.L_x_1) ;
        /*0030*/                   CALL.REL.NOINC `($slow) ;
.L_x_1:
        /*0040*/                   IMAD.WIDE.U32 R6, R0, R1, RZ ;
        /*0050*/                   FMUL R4, R4, R4 ;
        /*0060*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0070*/               @P0 BRA `(.L_x_1) ;
        /*0080*/                   EXIT ;
$slow:
        /*0090*/                   RET.REL.NODEC R6 `(kernel) ;
"""


def test_paths_and_slots():
    (lines,) = throughput.functions(CODE).values()
    once = throughput.usual_path(lines, {throughput.WIDE_STORE: 1, throughput.ROOT: 1})
    assert [throughput.opcode(i) for i in once] == [
        "LDG",
        "MUFU",
        "BRA",
        "IMAD",
        "FMUL",
        "STG",
        "BRA",
        "EXIT",
    ]
    assert throughput.count(once, 1) == throughput.Count(8, 4 + 8 + 1 + 4 + 1 + 4 + 1 + 1, 8, "issue")
    thrice = throughput.usual_path(lines, {throughput.WIDE_STORE: 3, throughput.ROOT: 1})
    assert len(thrice) == 8 + 2 * 4
    with pytest.raises(ValueError, match="no path"):
        throughput.usual_path(lines, {throughput.ROOT: 2})


def test_the_share_of_the_floor():
    assert throughput.share(8, 1) == 1
    balance = 8 / throughput.BYTES_A_SECOND * throughput.LANES_A_SECOND
    assert throughput.share(8, 2 * balance) == 0.5


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_eagers_launches_for_a_step_on_a_network(layers):
    """Every operation but views and what only allocates is a kernel on a GPU."""

    class Counted(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.count = 0

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            del types
            idle = op.is_view or op.__name__.split(".")[0] in ("detach", "empty_like", "t", "_unsafe_view")
            self.count += not idle
            return op(*args, **(kwargs or {}))

    net = torch.nn.Sequential(
        *(m for k in range(layers) for m in (torch.nn.Linear(8 if k else 2, 8), torch.nn.SiLU())),
        torch.nn.Linear(8, 1),
    )
    x = torch.zeros(4, 2)
    with Counted() as counted:
        at = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(net(at).sum(), at)
        x = x - 0.01 * slope + 0.1 * torch.randn_like(x)
    assert counted.count == network_gate.launches(layers)
