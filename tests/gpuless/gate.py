"""The compile gate of the Triton kernels: ``python tests/gpuless/gate.py [--write]``.

It compiles every kernel for every dtype and target through the launch path, holds the compiled
kernels to the rules and to limits.json, and writes the Triton part of docs/gpu-kernels.md. With
--write, limits.json gets the registers and instructions measured now, for sm_90; the rules are not
negotiable. It needs triton and no GPU.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from compiled import TARGETS, compiling
from measure import Cost, amd, nvidia
from table import write_table
from target_cases import COUPLED, KINDS, make
from torch import Tensor

import pyebm
from pyebm.targets import Gaussian, GaussianMixture

LIMITS = Path(__file__).with_name("limits.json")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SAMPLES = 64


def _channels_last(dtype: torch.dtype) -> Tensor:
    return torch.empty(SAMPLES, 3, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)


def _samples(size: int) -> Callable[[torch.dtype], Tensor]:
    return lambda dtype: torch.empty(SAMPLES, size, dtype=dtype)


# In order: whole tiles; the last tile cut; two elements an access; one element an access; strides
# unlike a contiguous tensor's.
LAYOUTS: dict[str, tuple[Callable[[torch.dtype], Tensor], tuple[torch.dtype, ...]]] = {
    "3072": (_samples(3072), DTYPES),
    "3000": (_samples(3000), (torch.float32,)),
    "3070": (_samples(3070), (torch.float32,)),
    "17": (_samples(17), (torch.float32, torch.bfloat16)),
    "3x32x32, channels last": (_channels_last, (torch.float32,)),
}
EVEN = "3072"
# The elements that a kernel must move for each one: the floor of an aligned tensor's traffic.
FLOOR = {
    "normal": 1,
    "perturb": 2,
    "perturb per sample": 2,
    "step": 3,
    "affine per sample": 3,
    "loss+grad": 2,
    "loss+grad per sample": 2,
    "grad": 2,
    "scale": 2,
}

Op = Callable[[dict[str, Callable[..., None]], Tensor], None]


def _name() -> Tensor:
    return pyebm.Noise(3)._name


def _rows() -> Tensor:
    return torch.ones(SAMPLES)


def _tokens(x: Tensor) -> Tensor:
    """A value for each eight elements, where they divide a sample; else for each element."""
    return torch.ones(x.numel() // (8 if x[0].numel() % 8 == 0 else 1))


def _elements(x: Tensor) -> Tensor:
    return torch.ones(x.numel())


def _loss_arguments(reduction: str) -> tuple[object, ...]:
    return (0.5, 1.0, 0.0, 1.0, 0.5, True, pyebm._schemas.REDUCTIONS[reduction], _name())


def _wide(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)


CASES: dict[str, Op] = {
    "normal": lambda ops, x: ops["normal_"](x, _name()),
    "perturb": lambda ops, x: ops["perturb"](torch.empty_like(x), x, 0.9, 0.5, _name()),
    "perturb per sample": lambda ops, x: ops["perturb"](
        torch.empty_like(x), x, 0.9, 0.5, _name(), sigma_rows=_rows()
    ),
    "step": lambda ops, x: ops["langevin_step"](torch.empty_like(x), x, x, 0.1, 1.0, _name()),
    "step, every option": lambda ops, x: ops["langevin_step"](
        torch.empty_like(x),
        x,
        x,
        0.1,
        1.0,
        _name(),
        _rows(),
        None,
        torch.empty_like(x),
        x > 0,
        -1.0,
        1.0,
        2.0,
    ),
    "affine per sample": lambda ops, x: ops["affine_step"](
        torch.empty_like(x), x, x, 0.9, 0.1, 0.2, _name(), _rows()
    ),
    "loss+grad": lambda ops, x: ops["denoising_loss"](
        _wide(x), torch.empty_like(x), x, *_loss_arguments("batchmean")
    ),
    "loss+grad per sample": lambda ops, x: ops["denoising_loss"](
        _wide(x, SAMPLES), torch.empty_like(x), x, *_loss_arguments("sample"), kappa_rows=_rows()
    ),
    "elementwise loss": lambda ops, x: ops["denoising_loss"](
        _wide(x, *x.shape), None, x, *_loss_arguments("none")
    ),
    "perturb per token": lambda ops, x: ops["perturb"](
        torch.empty_like(x), x, 0.9, 0.5, _name(), sigma_rows=_tokens(x)
    ),
    "step, every option, per element": lambda ops, x: ops["langevin_step"](
        torch.empty_like(x),
        x,
        x,
        0.1,
        1.0,
        _name(),
        _elements(x),
        None,
        torch.empty_like(x),
        x > 0,
        -1.0,
        1.0,
        2.0,
    ),
    "affine per element": lambda ops, x: ops["affine_step"](
        torch.empty_like(x), x, x, 0.9, 0.1, 0.2, _name(), _elements(x)
    ),
    "loss+grad per token": lambda ops, x: ops["denoising_loss"](
        _wide(x, SAMPLES), torch.empty_like(x), x, *_loss_arguments("sample"), kappa_rows=_tokens(x)
    ),
    "loss+grad, weight per element": lambda ops, x: ops["denoising_loss"](
        _wide(x), torch.empty_like(x), x, *_loss_arguments("batchmean"), weight_rows=_elements(x)
    ),
    "grad": lambda ops, x: ops["denoising_grad"](
        torch.empty_like(x), _wide(x), x, *_loss_arguments("batchmean")
    ),
    "scale": lambda ops, x: ops["scale_"](x, _wide(x)),
}


# Chains are measured by the cost of a step.
CHAINS = {"sm_90": KINDS}
CHAIN_SIZES = (2, 100)
LONG_SIZES = (3072, 3000)  # of coupled samples, which no tile holds: their state is in memory


def _chain(kind: str, size: int, dtype: torch.dtype) -> None:
    x = torch.empty(SAMPLES, size, dtype=dtype)
    params = make(kind, size)._checked("gate", x)
    pyebm.kernels.OPS["langevin_chain"](x, pyebm._schemas.TARGETS.index(kind), params, 100, 0.1, 1.0, _name())


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
    pyebm.kernels.OPS["langevin_chain"](x, target._index, target._checked("gate", x), 1, 0.1, 1.0, _name())


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
    return costs


def faults(target: str, key: str, cost: Cost, limits: dict[str, dict[str, float]]) -> list[str]:
    case, kernel, dtype, size = key.split("/")
    found = []
    if cost.local or cost.local_accesses:
        found.append(f"{cost.local} bytes of local memory, {cost.local_accesses} accesses to it")
    if cost.forbidden:
        found.append(f"instructions that change the promised bits: {', '.join(cost.forbidden)}")
    if size == EVEN and kernel not in ("step_rows", "loss_rows", "add_samples", "add_tiles"):
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
    longest_first = sorted(TARGETS, key=lambda target: target != "sm_90")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(longest_first, pool.map(measured, longest_first), strict=True))
    results = {target: found[target] for target in TARGETS}
    costs = {
        target: {key: Cost(**values) for key, values in table.items()} for target, table in results.items()
    }
    if "--write" in sys.argv:
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
    write_table(costs)
    print("\n".join([*wrong, f"{sum(map(len, costs.values()))} kernels compiled, {len(wrong)} faults"]))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
