"""The compile gate of the Triton kernels: ``python tests/gpuless/gate.py [--write]``.

It compiles every kernel for every dtype and target through the launch path, holds the compiled
kernels to the rules and to limits.json, and writes the Triton part of docs/gpu-kernels.md. With
--write, limits.json gets the registers and instructions measured now, for sm_90; the rules are not
negotiable. --turn K compiles for sm_90 and the K-th two of the other targets alone, and leaves the
document as it is. It needs triton and no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
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


def measured(target: str) -> dict[str, dict[str, object]]:
    """{"case/kernel/dtype/size": Cost as a dict} for a target."""
    import pyebm.kernels

    costs = {}
    read = amd if target.startswith("gfx") else partial(nvidia, counted=target == "sm_90")
    for layout, (samples, dtypes) in LAYOUTS.items() if target == "sm_90" else [(EVEN, LAYOUTS[EVEN])]:
        for dtype in dtypes:
            for case, op in CASES.items():
                with compiling(target) as launches:
                    op(pyebm.kernels.OPS, samples(dtype))
                for launch in launches:
                    key = f"{case}/{launch.name}/{str(dtype).removeprefix('torch.')}/{layout}"
                    costs[key] = asdict(read(launch))
    for case, op, size in SAMPLER_CASES:
        with compiling(target) as launches:
            op(pyebm.kernels.OPS, samples_of(size)(torch.float32))
        for launch in launches:
            costs[f"{case}/{launch.name}/float32/{size}"] = asdict(read(launch))
    for kind in CHAINS.get(target, ("double_well", "ackley")):
        for size in CHAIN_SIZES + (LONG_SIZES if kind in COUPLED else ()):
            with compiling(target) as launches:
                _chain(kind, size, torch.float32)
            for launch in launches:
                costs[f"chain, {kind}/{launch.name}/float32/{size}"] = asdict(read(launch))
    for kind, (components, sizes) in DENSE.items():
        for size in sizes:
            with compiling(target) as launches:
                _dense(kind, components, size)
            for launch in launches:
                costs[f"dense, {kind}/{launch.name}/float32/{size}"] = asdict(read(launch))
    if target == "sm_90":
        with compiling(target) as launches:
            _network()
        for launch in launches:
            costs[f"network/{launch.name}/float32/{NETWORK[0]}"] = asdict(nvidia(launch, counted=False))
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
            if getattr(cost, what) > most
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
    if asked.turn is not None:
        others = [others[(2 * asked.turn + k) % len(others)] for k in (0, 1)]
    longest_first = ["sm_90", *others]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(longest_first, pool.map(measured, longest_first), strict=True))
    results = {target: found[target] for target in TARGETS if target in found}
    costs = {
        target: {key: Cost(**values) for key, values in table.items()} for target, table in results.items()
    }
    if asked.write:
        limits = {
            key: {"registers": cost.registers, "instructions": round(cost.instructions + 0.05, 1)}
            for key, cost in costs["sm_90"].items()
        }
        LIMITS.write_text(json.dumps(limits, indent=1) + "\n")
    limits = json.loads(LIMITS.read_text()) if LIMITS.exists() else {}
    wrong = [
        f"{target} {key}: {fault}"
        for target, table in costs.items()
        for key, cost in table.items()
        for fault in faults(target, key, cost, limits)
    ]
    if asked.turn is None:
        write_table(costs)
    else:
        print(f"skipped: {', '.join(target for target in TARGETS if target not in found)}, for another turn")
    print("\n".join([*wrong, f"{sum(map(len, costs.values()))} kernels compiled, {len(wrong)} faults"]))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
