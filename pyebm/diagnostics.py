"""Measures that tell whether a sampler has converged: effective sample size, R-hat, the energy's
trace, the kernel Stein discrepancy.

``states`` are those of a trajectory, (n_kept, B, ...): draws first, then chains. ArviZ computes ESS
and R-hat (Vehtari et al. 2021); the extra ``diagnostics`` installs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._checks import check_like, check_samples, check_tensor, checked_number
from ._modes import in_mode
from ._options import check_callable, check_choice, checked_count, shown

_HOW_TO_GET = "pip install 'pyebm-kernels[diagnostics]' or pip install arviz-base 'arviz-stats[xarray]'"


def _arviz(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"diagnostics: this needs {error.name}: {_HOW_TO_GET}") from None


def _check_states(call: str, states: Tensor) -> None:
    check_samples(call, "states", states)
    if states.dim() < 2:
        raise ValueError(f"{call}: states must be (draws, chains, ...), got {tuple(states.shape)}")


def to_arviz(states: Tensor, info: dict[str, Tensor] | None = None) -> Any:
    """``states`` as an ``xarray.DataTree`` with the groups ``posterior`` and, from a trajectory's
    info, ``sample_stats``.

    Raises ImportError where arviz-base is missing, TypeError or ValueError where states is not
    (draws, chains, ...).

    Example:
        >>> import pyebm
        >>> states = pyebm.Noise(0).randn((100, 4, 2))
        >>> pyebm.diagnostics.to_arviz(states)["posterior"]["x"].shape  # doctest: +SKIP
        (4, 100, 2)
    """
    _check_states("to_arviz", states)
    if states.is_meta:
        raise ValueError("to_arviz: states must hold numbers, got a tensor on meta")
    if not (info is None or isinstance(info, dict)):
        raise TypeError(f"to_arviz: info must be a trajectory's info or None, got {shown(info)}")
    base = _arviz("arviz_base")
    draws, chains = states.shape[:2]

    def by_chain(values: Tensor) -> Any:
        if values.dim() == 1:  # all chains share one value per draw
            values = values[:, None].expand(draws, chains)
        return values.detach().double().cpu().transpose(0, 1).numpy()

    groups = {"posterior": {"x": by_chain(states)}}
    names = {"energy": "energy", "accept_prob": "acceptance_rate", "step_size": "step_size", "sigma": "sigma"}
    given = {key: info[key] for key in names if info and key in info}
    for key, values in given.items():
        check_tensor("to_arviz", f"info[{key!r}]", values)
        if values.shape not in ((draws,), (draws, chains)):
            raise ValueError(
                f"to_arviz: info[{key!r}] must be ({draws},) or ({draws}, {chains}), got"
                f" {tuple(values.shape)}"
            )
    stats = {names[key]: by_chain(values) for key, values in given.items()}
    return base.from_dict(groups | ({"sample_stats": stats} if stats else {}))


def ess(states: Tensor, *, method: str = "bulk", **options: Any) -> Tensor:
    """The effective sample size over all chains of every element, shape ``states.shape[2:]``,
    float64 on the CPU.

    ``method`` and ``options`` are those of ``arviz_stats.ess``. Raises as :func:`to_arviz`.

    Example:
        >>> import pyebm
        >>> states = pyebm.Noise(0).randn((100, 4, 2))
        >>> pyebm.diagnostics.ess(states) > 300  # doctest: +SKIP
        tensor([True, True])
    """
    return _statistic("ess", states, method=method, **options)


def rhat(states: Tensor, *, method: str = "rank", **options: Any) -> Tensor:
    """R-hat of every element, shape ``states.shape[2:]``: near 1 where the chains agree. Needs two
    chains or more.

    ``method`` and ``options`` are those of ``arviz_stats.rhat``. Raises as :func:`to_arviz`.

    Example:
        >>> import pyebm
        >>> states = pyebm.Noise(0).randn((100, 4, 2))
        >>> pyebm.diagnostics.rhat(states) < 1.05  # doctest: +SKIP
        tensor([True, True])
    """
    return _statistic("rhat", states, method=method, **options)


def _statistic(name: str, states: Tensor, **options: Any) -> Tensor:
    _check_states(name, states)
    if not isinstance(options["method"], str):
        raise TypeError(
            f"{name}: method must be one of arviz_stats.{name}'s, by its name, got {shown(options['method'])}"
        )
    if states.shape[0] < 4:
        raise ValueError(f"{name}: states must hold 4 draws or more, got {states.shape[0]}")
    stats = _arviz("arviz_stats")
    if not hasattr(stats, name):  # without xarray-einstats, arviz_stats leaves its interface for xarray out
        raise ImportError(f"diagnostics: this needs xarray-einstats: {_HOW_TO_GET}")
    value = getattr(stats, name)(to_arviz(states), **options)["x"].values
    return torch.as_tensor(value, dtype=torch.float64, device="cpu").reshape(states.shape[2:])


def energy_trace(states: Tensor, energy_fn: Callable[[Tensor], Tensor]) -> Tensor:
    """The energy of every state, (draws, chains), one draw at a time: a trace that drifts has not
    reached its law.

    Raises TypeError or ValueError where states is not (draws, chains, ...), or energy_fn is no
    function.

    Example:
        >>> import pyebm
        >>> states = pyebm.Noise(0).randn((100, 4, 2))
        >>> pyebm.diagnostics.energy_trace(states, pyebm.targets.Harmonic()).shape
        torch.Size([100, 4])
    """
    _check_states("energy_trace", states)
    check_callable("energy_trace", "energy_fn", energy_fn, "a function of x")
    rows = in_mode(
        lambda: [energy_fn(x).reshape(-1) for x in states],
        grad=False,
        inference=torch.is_inference_mode_enabled(),
    )
    return torch.stack(rows) if rows else states.new_empty(states.shape[:2])


def kernel_stein_discrepancy(
    x: Tensor, score: Tensor, *, c: float = 1.0, beta: float = -0.5, statistic: str = "u", block: int = 1024
) -> Tensor:
    """The squared kernel Stein discrepancy between a sample and the density whose score it is
    given.

    ``mean of k0(x_i, x_j)`` for the Stein kernel k0 of the inverse multiquadric
    ``(c^2 + |x - y|^2)^beta``, which detects non-convergence for beta in (-1, 0) (Gorham & Mackey
    2017, "Measuring sample quality with kernels").

    Args:
        x: the sample (n, ...), n points.
        score: grad log p at them, like x.
        c, beta: parameters of the kernel, c > 0 and -1 < beta < 0.
        statistic: "u" leaves i = j out (unbiased: around 0 for a sample of p, at times below; n >=
            2); "v" keeps it (>= 0).
        block: how many points are taken at a time; memory is a few block^2 numbers, whatever n.

    Returns:
        The statistic, float64, shape (). Its root is the discrepancy.

    Raises TypeError and ValueError for arguments that are not so.

    Example:
        >>> import torch, pyebm
        >>> x = pyebm.Noise(0).randn((500, 2))
        >>> discrepancy = pyebm.diagnostics.kernel_stein_discrepancy
        >>> right, wrong = (float(discrepancy(x, -(x - m))) for m in (0.0, 0.5))
        >>> abs(right) < 0.02 < wrong
        True
    """
    call = "kernel_stein_discrepancy"
    n = check_samples(call, "x", x)
    score = check_like(call, "score", score, "x", x)
    check_choice(call, "statistic", statistic, ("u", "v"))
    least = 2 if statistic == "u" else 1
    if n < least:
        raise ValueError(f"kernel_stein_discrepancy: x must hold {least} points or more, got {n}")
    c, beta = checked_number(call, "c", c, 0.0, open_low=True), checked_number(call, "beta", beta)
    if not -1 < beta < 0:
        raise ValueError(f"kernel_stein_discrepancy: beta must be in (-1, 0), got {beta}")
    block = checked_count(call, "block", block, 1)
    points, scores = (part.detach().double().reshape(n, -1) for part in (x, score))
    total = points.new_zeros(())
    for i in range(0, n, block):
        for j in range(0, i + 1, block):  # k0 is symmetric, so the blocks below the diagonal suffice
            k0 = _stein_kernel(
                points[i : i + block],
                scores[i : i + block],
                points[j : j + block],
                scores[j : j + block],
                c,
                beta,
            )
            total += k0.sum() * (1 if i == j else 2)
            if i == j and statistic == "u":
                total -= k0.diagonal().sum()
    return total / (n * (n - 1) if statistic == "u" else n * n)


def _stein_kernel(x: Tensor, sx: Tensor, y: Tensor, sy: Tensor, c: float, beta: float) -> Tensor:
    """k0 between two blocks of points: sx.sy k + (sx.grad_y + sy.grad_x) k + div_x grad_y k for k =
    q^beta, q = c^2 + |x - y|^2."""
    square = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    q = square + c * c
    # This is (sy - sx).(x - y), from inner products. Their differences cancel, so the distance
    # between the points is not made of them.
    across = (x @ sy.T) - (y * sy).sum(1) - (sx * x).sum(1, keepdim=True) + (sx @ y.T)
    outer = q ** (beta - 1)
    return (
        (sx @ sy.T) * outer * q
        + 2 * beta * outer * (across - x.shape[1])
        - 4 * beta * (beta - 1) * outer / q * square
    )
