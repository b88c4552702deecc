"""The instructions that the dense targets' kernels execute for a block of samples and components:
their loops, read off the machine code.

throughput.py's usual path goes through each loop once; here a loop counts as often as the sizes
say.
"""

from __future__ import annotations

import re

from compiled import Launch
from throughput import opcode

_SPAN = 128  # dimensions summed in one go


def loops(lines: list[str]) -> list[list[str]]:
    """The bodies of the loops, in the order of their ends: an inner one comes before the one around
    it."""
    labels = {line[:-1]: at for at, line in enumerate(lines) if line.endswith(":")}
    found = []
    for at, line in enumerate(lines):
        target = re.search(r"BRA\S*\s.*`\(([^)]+)\)", line)
        if target and labels.get(target[1], at) < at:
            found.append([one for one in lines[labels[target[1]] : at + 1] if not one.endswith(":")])
    return found


def _without(body: list[str], *inner: list[str]) -> list[str]:
    """The body without the inner loops, each removed once."""
    for loop in inner:
        at = next(k for k in range(len(body)) if body[k : k + len(loop)] == loop)
        body = body[:at] + body[at + len(loop) :]
    return body


def path(lines: list[str], launch: Launch) -> tuple[list[str], float, dict[str, float]]:
    """(a thread's instructions for one block, its products, each loop's instructions for a
    product). A product is that of a sample and a component, or column, in one dimension."""
    arguments = launch.arguments
    elements, threads = arguments["elements"], 32 * launch.compiled.metadata.num_warps
    spans = -(-elements // _SPAN)
    every = [body for body in loops(lines) if len(body) > 9]
    multiplies = [body for body in every if any(opcode(one) in ("FFMA", "FFMA2") for one in body)]
    if launch.name == "product_kernel":
        inner, span = multiplies[:2]
        rows, cols, k = arguments["ROWS"], arguments["COLS"], arguments["K"]
        made = inner * -(-elements // k) + _without(span, inner) * spans
        each = rows * cols / threads
        return made, each * elements, {"product": len(inner) / (each * k)}
    block = arguments["BLOCK"]
    inner, span = multiplies[:2]
    means = next(body for body in multiplies if any(opcode(one) == "STG" for one in body))
    whole = max(multiplies, key=len)
    made = (
        inner * -(-elements // block.K) + _without(span, inner) * spans + means * -(-elements // block.COLS)
    )
    rest = _without(whole, span, means)
    each = block.samples * block.components / threads
    shares = {
        "distances": len(inner) / (each * block.K),
        "means": len(means) / (each * block.COLS),
        "a component": len(rest) / each,
    }
    return made + rest, each * elements, shares
