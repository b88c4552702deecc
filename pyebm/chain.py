"""Many Langevin steps on a target in one kernel, which reads the state once and writes it once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from . import _ops
from ._bar import Tick, bar, most_between
from ._chain_coefficient import ChainCoefficient, chain_coefficient
from ._chain_loop import chain_loop, results
from ._checks import Coefficient
from ._clamps import Clamp, by_element, element_bounds
from ._composed.coefficients import require
from ._derivatives import BySample, launched, only_batched, wanted
from ._dtensor import by_samples
from ._memory import copy_of
from ._modes import in_mode
from ._options import checked_count, checked_flag
from ._step_options import step_options
from ._stretches import first_stretch, stretches
from .noise import Noise, named
from .targets import Target

_OP = "langevin_chain"


@by_samples
def langevin_chain(
    x: Tensor,
    target: Target,
    n_steps: int,
    step_size: Coefficient | Sequence[float],
    noise: Noise,
    *,
    temperature: Coefficient | Sequence[float] = 1.0,
    clamp: Clamp | None = None,
    score_clip: float | None = None,
    mask: Tensor | None = None,
    thin: int | None = None,
    return_diverged: bool = False,
    differentiable: bool | None = None,
    progress: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """``n_steps`` of ``x <- clamp(x + eta s(x) + sqrt(2 eta T) z)`` with the target's own score,
    fused into one kernel.

    Step k (from 0) draws ``z`` from ``noise.at(step=noise.step + k)``. Equivalent, bit for bit on
    the same backend, to a loop of :func:`langevin_step` with ``target.score(x)`` (half precisions
    included: score and state are rounded at every step, as there), and so to any way of cutting the
    run into calls; a sample's result does not depend on its batch or on the threads.

    Args:
        x: the initial state (B, ...), float16, bfloat16, float32 or float64; any strides, which the
            result keeps.
        target: one of :mod:`pyebm.targets`, on x's device.
        n_steps: K >= 0.
        step_size: eta > 0. A number; a tensor (B,) or (B, 1, ...), one per sample; or a schedule,
            one per step: a list of K numbers, or a tensor (K,). A tensor (K,) with K = B is
            refused, since it could mean either: give (B, 1) or a list.
        noise: names the noise of the first step.
        temperature: T >= 0, like step_size.
        clamp: (low, high), applied to every state: numbers, None for an open side, or tensors that
            broadcast to x, with which the chain is a loop of steps.
        score_clip: clip the score elementwise to [-score_clip, score_clip] first.
        mask: bool, broadcastable to x: where False, x stays as it is (inpainting). With one, or a
            score_clip, the chain of a closed-form target is a loop of steps on other devices than
            the CPU.
        thin: also return the states after steps thin, 2 thin, ..., a tensor (K // thin, B, ...).
        return_diverged: also return, for each sample, the first k whose step left its state not
            finite, int64 (B,), or -1. A chain that diverges never influences another one.
        differentiable: None follows every tensor that requires grad, except for a learned target
            (MLPEnergy, MLPScore): its parameters always require grad, so its chain is a constant,
            as training on a chain's samples needs it. True follows that target too, False nothing.
        progress: show a bar (needs rich); compiled code shows none.
        backend: None lets the device decide; or a name from :func:`pyebm.backends`.

    Returns:
        The last state, or a tuple of it, the states (with thin), and the report (with
        return_diverged), in this order. Differentiable in x, step_size, temperature and the
        target's numbers, in both modes and to any order; then it is a loop of differentiable steps.

    Raises:
        TypeError: x is not a dense real floating-point tensor; a target, number or Noise of another
            type.
        ValueError: a target of another dimension or on another device; n_steps < 0, thin < 1; a
            schedule of another length; coefficients out of range; steps beyond 2**32; a Noise that
            does not fit the batch.
        ImportError: progress=True without rich.
        RuntimeError: the backend is not available here, or lacks the op; a derivative in forward
            mode or by a transform of torch.func of a chain that is a constant.

    Example:
        >>> import torch, pyebm
        >>> x = torch.zeros(1000, 2)
        >>> x = pyebm.langevin_chain(x, pyebm.targets.DoubleWell(), 1000, 0.01, pyebm.Noise(0))
        >>> bool((x.abs() - 1).abs().median() < 0.3)  # near the wells at -1 and 1
        True
    """
    if not isinstance(target, Target):
        raise TypeError(
            f"{_OP}: target must be one of pyebm.targets, got {type(target).__name__}; MLPEnergy and MLPScore"
            " make one of a network, and samplers.Langevin takes any score"
        )
    follows = (
        target.follows if differentiable is None else checked_flag(_OP, "differentiable", differentiable)
    )
    limits = (clamp, score_clip, mask)
    args = (
        x,
        target,
        n_steps,
        step_size,
        noise,
        temperature,
        *limits,
        thin,
        return_diverged,
        follows,
        checked_flag(_OP, "progress", progress) and not torch.compiler.is_compiling(),
        backend,
    )
    if follows or not torch.is_grad_enabled():
        return _chain(*args)
    return in_mode(lambda: _chain(*args), grad=False)


def _chain(
    x: Tensor,
    target: Target,
    n_steps: int,
    step_size: Coefficient | Sequence[float],
    noise: Noise,
    temperature: Coefficient | Sequence[float],
    clamp: Clamp | None,
    score_clip: float | None,
    mask: Tensor | None,
    thin: int | None,
    return_diverged: bool,
    follows: bool,
    progress: bool,
    backend: str | None,
) -> Tensor | tuple[Tensor, ...]:
    n_steps = checked_count(_OP, "n_steps", n_steps)
    if thin is not None:
        thin = checked_count(_OP, "thin", thin, 1, " or None")
    return_diverged = checked_flag(_OP, "return_diverged", return_diverged)
    numbers = target._numbers_for(_OP, x)  # this checks x too
    params = numbers.params
    eta = chain_coefficient(_OP, "step_size", step_size, x, n_steps, open_low=True)
    t = chain_coefficient(_OP, "temperature", temperature, x, n_steps)
    clamps = by_element(clamp)
    if clamps and clamp is not None:
        element_bounds(_OP, clamp, x)  # checks the bounds before the first step
    options = step_options(_OP, x, None if clamps else clamp, score_clip, mask)
    name, seeds, ids = named(_OP, noise, x)
    # The check is left out under torch.compile, where it would be a guard on the step.
    if not torch.compiler.is_compiling() and noise.step + n_steps > 2**32:
        raise ValueError(f"{_OP}: steps must stay below 2**32, got step={noise.step} and n_steps={n_steps}")
    states = None if thin is None else x.new_empty((n_steps // thin, *x.shape))
    diverged = x.new_empty(x.shape[:1], dtype=torch.int64) if return_diverged else None
    kernels = _ops.kernels(backend, x)
    tensors = (x, params, numbers.biases, eta.rows, t.rows, seeds, ids)
    followed = wanted(*tensors)
    if followed and not follows and not only_batched(*tensors):
        raise RuntimeError(
            f"{_OP}: the chain is a constant, of which no derivative can be taken; give differentiable=True,"
            " or detach what has a tangent or is differentiated by torch.func"
        )
    limited = mask is not None or score_clip is not None
    if clamps or followed or not target._has_chain(backend, x, limited):
        kernel_only = (
            followed
            and only_batched(*tensors)
            and not wanted(params, numbers.biases)
            and not clamps
            and not limited
        )
        if kernel_only and thin is None and not return_diverged:
            return _batched(x, target, n_steps, eta, t, noise, clamp, backend)
        with bar(_OP, n_steps, progress) as tick:
            limits = (clamp, score_clip, mask)
            return chain_loop(
                x, target, n_steps, eta, t, noise, *limits, thin, return_diverged, backend, tick
            )
    kernel, out = kernels[numbers.op], copy_of(x)

    def advance(
        count: int,
        eta: ChainCoefficient,
        t: ChainCoefficient,
        name: Tensor,
        states: Tensor | None,
        diverged: Tensor | None,
    ) -> None:
        head = (out, numbers.which, params, count, eta.number, t.number, name)
        every = None if states is None else thin
        rows, (kept_mask, low, high, clip) = (eta.rows, t.rows, eta.per_step, t.per_step), options
        tail = (*rows, states, every, diverged, low, high, seeds, ids, kept_mask, clip, *numbers.tail())
        _ops.call(kernel, head, tail)

    if torch.compiler.is_compiling() or (
        n_steps <= (first := first_stretch(x, params, n_steps)) and not progress
    ):
        advance(n_steps, eta, t, name, states, diverged)
    else:
        with bar(_OP, n_steps, progress) as tick:
            cuts = stretches(n_steps, first, thin, most=most_between(n_steps) if progress else None)
            _in_stretches(advance, out, cuts, eta, t, name, states, thin, diverged, tick)
    return results(out, states, diverged)


def _batched(
    x: Tensor,
    target: Target,
    n_steps: int,
    eta: ChainCoefficient,
    t: ChainCoefficient,
    noise: Noise,
    clamp: Clamp | None,
    backend: str | None,
) -> Tensor:
    """The chains of all entries of a vmap batch in one launch; each entry has the noise that it has
    by itself. For calls that only vmap follows."""

    def chain(
        x: Tensor, eta_rows: Tensor | None, t_rows: Tensor | None, seeds: Tensor | None, ids: Tensor
    ) -> Tensor:
        named = Noise(
            noise.seed if seeds is None else seeds, sample_ids=ids, step=noise.step, stream=noise.stream
        )
        step_size, temperature = eta.given(eta_rows), t.given(t_rows)
        made = langevin_chain(
            x, target, n_steps, step_size, named, temperature=temperature, clamp=clamp, backend=backend
        )
        return cast(Tensor, made)

    batch = x.shape[0]
    ids, seeds = noise.sample_ids, noise.seed if isinstance(noise.seed, Tensor) else None
    if ids is None:
        ids = torch.arange(batch, dtype=torch.int64, device="cpu") + noise.first_sample
    shared = tuple(place for place, row in ((1, eta), (2, t)) if row.per_step)
    rows = (row.rows if row.rows is None or row.per_step else row.rows.expand(batch) for row in (eta, t))
    return launched(BySample(chain, shared), x, *rows, seeds, ids)


def _in_stretches(
    advance: Callable[..., None],
    out: Tensor,
    cuts: Iterable[tuple[int, int]],
    eta: ChainCoefficient,
    t: ChainCoefficient,
    name: Tensor,
    states: Tensor | None,
    thin: int | None,
    diverged: Tensor | None,
    tick: Tick,
) -> None:
    """Runs the chain in several calls, between which Ctrl-C is heard; the bits are the same."""
    for label, row, positive in (("step_size", eta, True), ("temperature", t, False)):
        if row.rows is not None and row.per_step:  # check all steps before the first, as one call would
            require(_OP, label, row.rows, positive, "step")
    if diverged is not None:
        diverged.fill_(-1)
    for done, count in cuts:
        inside = None
        if states is not None and thin is not None and done % thin == 0 and count >= thin:
            inside = states.narrow(0, done // thin, count // thin)
        found = None if diverged is None else torch.empty_like(diverged)
        advance(count, eta.part(done, count), t.part(done, count), name, inside, found)
        name = torch.cat((name[:2], name[2:3] + count, name[3:]))  # no write, which AOTInductor refuses
        if states is not None and thin is not None and inside is None and (done + count) % thin == 0:
            states[(done + count) // thin - 1] = out
        if diverged is not None and found is not None:
            torch.where((diverged < 0) & (found >= 0), found + done, diverged, out=diverged)
        tick(count)
