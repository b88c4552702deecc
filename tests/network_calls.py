"""Calls of the network ops at the SIMD levels of this machine, for the tests of their bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from cases import assert_equal
from network_cases import Network
from torch import Tensor

from pyebm import _ops, reference

# Relative to the largest score or energy: a few times the rounding of sums with as many terms.
BOUND = {torch.float32: 6e-6, torch.float64: 1.5e-14}
OPS = torch.ops.pyebm
NAME = torch.tensor([3, 0, 4, 0])  # the name of the noise


def has(level: str) -> bool:
    before = _ops.simd()
    try:
        _ops.simd(level)
    except ValueError:
        return False
    _ops.simd(before)
    return True


LEVELS = [level for level in ("baseline", "avx2", "avx512") if has(level)]


def scored(
    net: Network, x: Tensor, biases: Tensor | None = None, op=OPS.network_score
) -> tuple[Tensor, Tensor | None]:
    layout, params = net.packed(torch.float64 if x.dtype == torch.float64 else torch.float32)
    score = torch.empty_like(x)
    energy = x.new_empty(x.shape[:1], dtype=params.dtype) if net.kind == "energy" else None
    op(score, x, layout, params, None if biases is None else biases.to(params.dtype), energy)
    return score, energy


def at_levels(
    net: Network, x: Tensor, biases: Tensor | None = None
) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Computes the results at every level and by the reference; all levels that have a fused
    multiply-add must give the same bits."""
    found = {"reference": scored(net, x, biases, reference.OPS["network_score"])}
    for level in LEVELS:
        _ops.simd(level)
        found[level] = scored(net, x, biases)
    fused = [found[level] for level in LEVELS if level != "baseline"]
    for other in fused[1:]:
        assert_equal(other[0], fused[0][0])
        if other[1] is not None:
            assert_equal(other[1], fused[0][1])
    return found


def assert_right(net: Network, x: Tensor) -> None:
    want = net.truth(x)
    for level, got in at_levels(net, x).items():
        for one, truth in zip(got, want, strict=True):
            if truth is not None:
                worst = (one.double() - truth.detach()).abs().max() / truth.abs().max()
                assert worst <= BOUND[x.dtype], (level, float(worst))


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def chain(
    net: Network, x: Tensor, steps: int = 5, op=OPS.network_chain, biases: Tensor | None = None, **options
) -> Tensor:
    layout, params = net.packed(torch.float64 if x.dtype == torch.float64 else torch.float32)
    out = x.clone()
    numbers = options.pop("step_size", 0.01), options.pop("temperature", 1.0)
    if biases is not None:
        options["biases"] = biases.to(params.dtype)
    op(out, layout, params, steps, *numbers, options.pop("name", NAME), **options)
    return out


def curvatures(
    net: Network, x: Tensor, v: Tensor, ops: Mapping[str, Callable[..., None]] | None = None, biases=None
) -> tuple[Tensor, Tensor]:
    """The Hessians times v, and the Hessians' traces, by these ops or by the CPU's."""
    layout, params = net.packed(torch.float64 if x.dtype == torch.float64 else torch.float32)
    biases = None if biases is None else biases.to(params.dtype)
    product, trace = torch.empty_like(x), params.new_empty(x.shape[0])
    times, laplacian = (
        ops[name] if ops is not None else getattr(OPS, name) for name in ("network_hvp", "network_laplacian")
    )
    times(product, x, v, layout, params, biases)
    laplacian(trace, x, layout, params, biases)
    return product, trace


def painting(x: Tensor, steps: int) -> dict[str, Tensor]:
    """The options of a chain that paints in: a mask, known data, and their noise level by step."""
    levels = torch.linspace(1.5, 0.1, steps, dtype=torch.float64)
    marginals = torch.stack((1 - levels / 3, levels), 1)
    mask = normal(*x.shape, seed=7) > 0
    return {"mask": mask, "known": normal(*x.shape, dtype=x.dtype, seed=8), "marginals": marginals}


def loop(net: Network, x: Tensor, steps: int = 5, biases: Tensor | None = None, **options) -> list[Tensor]:
    """Takes the steps one by one."""
    rows, now, states = {}, x.clone(), []
    for k in range(steps):
        for key in ("step_size", "temperature"):
            values, per_step = options.get(f"{key}_rows"), options.get(f"{key}_per_step")
            rows[f"{key}_rows"] = values[k : k + 1] if per_step else values
        at = biases[k : k + 1] if options.get("biases_per_step") else biases
        kept = {key: options[key] for key in ("low", "high", "score_clip", "seeds", "ids") if key in options}
        name = NAME + torch.tensor([0, 0, k, 0])
        OPS.langevin_step(now, None, scored(net, now, at)[0], 0.01, 1.0, name, **rows, **kept)
        states.append(now.clone())
    return states
