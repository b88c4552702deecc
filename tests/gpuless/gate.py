"""The compile gate of the Triton kernels: ``python tests/gpuless/gate.py [--write]``.

It compiles every kernel for every dtype and target through the launch path, holds the compiled
kernels to the rules and to limits.json, and writes the Triton part of docs/gpu-kernels.md. With
--write, limits.json gets the registers and instructions measured now, for sm_90; the rules are not
negotiable. --turn K leaves the document as it is. It compiles for sm_90, where it counts the
instructions of code that limits.json does not know, and a part of the kernels for another target,
both in turn. It needs triton and no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from operator import itemgetter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from compiled import TARGETS, compiling
from gate_cases import (
    CASES,
    EVEN,
    FLOOR,
    LAYOUTS,
    SAMPLER_CASES,
    SAMPLES,
    noise_name,
    samples_of,
)
from measure import UNTILED, Cost, amd, nvidia
from network_cases import network
from table import write_table
from target_cases import COUPLED, KINDS, make

import pyebm
from pyebm.targets import Gaussian, GaussianMixture

LIMITS = Path(__file__).with_name("limits.json")

# Chains are measured by the cost of a step.
CHAINS = {"sm_90": KINDS}
CHAIN_SIZES = (2, 100)
LONG_SIZES = (3072, 3000)  # of coupled samples, which no tile holds: their state is in memory


def _chain(kind: str, size: int, dtype: torch.dtype) -> None:
    x = torch.empty(SAMPLES, size, dtype=dtype)
    params = make(kind, size)._checked("gate", x)
    index = pyebm._schemas.TARGETS.index(kind)
    pyebm.kernels.OPS["langevin_chain"](x, index, params, 100, 0.1, 1.0, noise_name())


# For each dense target: the number of components, and the dimensions.
DENSE = {
    "mixture": (1797, (2, 64, 784)),
    "mixture_diagonal": (1797, (64, 784)),
    "gaussian_full": (1, (64, 784)),
}


def _dense(kind: str, components: int, size: int) -> None:
    means = torch.arange(components * size, dtype=torch.float32).reshape(components, size)
    target = {
        "mixture": lambda: GaussianMixture(means, 0.5),
        "mixture_diagonal": lambda: GaussianMixture(means, torch.ones(means.shape)),
        "gaussian_full": lambda: Gaussian(means[0], covariance=torch.eye(size)),
    }[kind]()
    x = torch.empty(SAMPLES, size)
    numbers = (target._index, target._checked("gate", x))
    pyebm.kernels.OPS["langevin_chain"](x, *numbers, 1, 0.1, 1.0, noise_name())


# A chain on an energy of (dimensions, hidden layers), and its Hessian times a vector: compiled for
# sm_90 alone, since that takes as long as several other kernels. (For gfx942, 7 of the chain's
# scalar registers would go to vector registers.)
NETWORK = (2, (128, 128))


def _network() -> None:
    dim, widths = NETWORK
    numbers = network("energy", dim, widths).packed()
    x = torch.empty(SAMPLES, dim)
    pyebm.kernels.OPS["network_chain"](x, *numbers, 100, 0.1, 1.0, noise_name())
    pyebm.kernels.OPS["network_hvp"](torch.empty_like(x), x, torch.empty_like(x), *numbers)


PARTS = 4  # of each target's calls, so that no process is left alone with the last target
Call = tuple[str, str, Callable[[], object], bool]  # case, dtype and size, the call, whether to count


def calls(target: str) -> Iterator[Call]:
    """The calls whose kernels are compiled for a target."""
    import pyebm.kernels

    ops, counted = pyebm.kernels.OPS, target == "sm_90"
    for layout, (samples, dtypes) in LAYOUTS.items() if counted else [(EVEN, LAYOUTS[EVEN])]:
        for dtype in dtypes:
            rest = f"{str(dtype).removeprefix('torch.')}/{layout}"
            for case, op in CASES.items():
                yield case, rest, partial(_run, op, ops, samples, dtype), counted
    for case, op, size in SAMPLER_CASES:
        yield case, f"float32/{size}", partial(_run, op, ops, samples_of(size), torch.float32), counted
    for kind in CHAINS.get(target, ("double_well", "ackley")):
        for size in CHAIN_SIZES + (LONG_SIZES if kind in COUPLED else ()):
            yield f"chain, {kind}", f"float32/{size}", partial(_chain, kind, size, torch.float32), counted
    for kind, (components, sizes) in DENSE.items():
        for size in sizes:
            yield f"dense, {kind}", f"float32/{size}", partial(_dense, kind, components, size), counted
    if counted:
        yield "network", f"float32/{NETWORK[0]}", _network, False


def _run(op: Callable[..., object], ops: object, samples: Callable[..., object], dtype: torch.dtype) -> None:
    op(ops, samples(dtype))


def measured(
    target: str, part: int, known: dict[str, str] | None = None
) -> list[tuple[int, str, dict[str, object]]]:
    """(place, "case/kernel/dtype/size", Cost as a dict) of the kernels of a part of a target's
    calls. known: digests of code whose instructions need not be counted."""
    known, costs = known or {}, []
    for place, (case, rest, call, counted) in enumerate(calls(target)):
        if place % PARTS == part:
            with compiling(target) as launches:
                call()
            for one in launches:
                key = f"{case}/{one.name}/{rest}"
                cost = amd(one) if target.startswith("gfx") else nvidia(one, counted, known.get(key, ""))
                costs.append((place, key, asdict(cost)))
    return costs


def faults(target: str, key: str, cost: Cost, limits: dict[str, dict[str, float]]) -> list[str]:
    case, kernel, dtype, size = key.split("/")
    found = []
    if cost.local or cost.local_accesses:
        found.append(f"{cost.local} bytes of local memory, {cost.local_accesses} accesses to it")
    if cost.forbidden:
        found.append(f"instructions that change the promised bits: {', '.join(cost.forbidden)}")
    if size == EVEN and kernel not in UNTILED:
        floor = FLOOR.get(case, 0) * getattr(torch, dtype).itemsize
        if floor and target.startswith("sm") and cost.bytes_per_element != floor:
            found.append(
                f"{cost.bytes_per_element} bytes an element by 128-bit accesses, the floor is {floor}"
            )
    if target == "sm_90":
        limit = limits.get(key)
        if limit is None:
            return [*found, "no limit is committed for it; run with --write"]
        found += [
            f"{what} {getattr(cost, what):.1f}, the committed limit is {most}"
            for what, most in limit.items()
            if what != "code" and getattr(cost, what) > most
        ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--write", action="store_true")
    alone.add_argument("--turn", type=int)
    asked = parser.parse_args()
    others = [target for target in TARGETS if target != "sm_90"]
    limits = json.loads(LIMITS.read_text()) if LIMITS.exists() else {}
    known = {key: limit["code"] for key, limit in limits.items()} if asked.turn is not None else {}
    tasks = [(target, part, known) for target in ("sm_90", *others) for part in range(PARTS)]
    if asked.turn is not None:
        part, other = divmod(asked.turn, len(others))
        tasks = [*tasks[:PARTS], (others[other], part % PARTS, {})]
    found = defaultdict(list)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for (target, *_), rows in zip(tasks, pool.map(measured, *zip(*tasks, strict=True)), strict=True):
            found[target] += rows
    costs = {
        target: {key: Cost(**cost) for _, key, cost in sorted(found[target], key=itemgetter(0))}
        for target in TARGETS
        if target in found
    }
    if asked.write:
        limits = {
            key: {
                "registers": cost.registers,
                "instructions": round(cost.instructions + 0.05, 1),
                "code": cost.code,
            }
            for key, cost in costs["sm_90"].items()
        }
        LIMITS.write_text(json.dumps(limits, indent=1) + "\n")
    wrong = [
        f"{target} {key}: {fault}"
        for target, table in costs.items()
        for key, cost in table.items()
        for fault in faults(target, key, cost, limits)
    ]
    if asked.turn is None:
        write_table(costs)
    else:
        counted = sum(cost.code != known.get(key) for key, cost in costs["sm_90"].items())
        print(f"sm_90: {counted} of {len(costs['sm_90'])} kernels counted; the others' code is known")
        print(f"{tasks[-1][0]}: part {tasks[-1][1] + 1} of {PARTS}")
        print(f"skipped: {', '.join(target for target in TARGETS if target not in costs)}, for another turn")
    print("\n".join([*wrong, f"{sum(map(len, costs.values()))} kernels compiled, {len(wrong)} faults"]))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
