"""MALA and HMC, and the adaptation of their step size."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from torch import Tensor

from .._arguments import Apart, Between, Dtype, Is, Number, Shape, With, Written
from .chains import Density
from .types import DOUBLES, LIKE, ROW, SAMPLES, Finite, Name, PerSample, Positive, Schedule


class Leapfrog(NamedTuple):
    """HMC's kick and drift: p = from_p + step_size score, if a score is given, then x = from_x +
    step_size p; from_* = None means in place. If the step size is a number, its product is rounded
    to x's dtype; if there is one per sample, it is not."""

    x: Annotated[Tensor, SAMPLES, Written]
    p: Annotated[Tensor, LIKE, Written]
    step_size: Finite
    score: Annotated[Tensor | None, LIKE] = None
    from_x: Annotated[Tensor | None, LIKE, Apart] = None
    from_p: Annotated[Tensor | None, LIKE] = None
    step_size_rows: Annotated[Tensor | None, Is(Shape.ABOVE_ROWS, Dtype.REAL)] = None


class Metropolis(NamedTuple):
    """x, score and energy become those of the proposal where log u < log_alpha = (energy -
    proposal_energy) / temperature + (before - after) / scale, with u the sample's uniform; accepted
    counts the accepted proposals. before and after are sums of squares as the loss kernel makes
    them: for MALA |proposal - x - step score|^2 and |x - proposal - step proposal_score|^2; for
    HMC, where first and last are given, |first - step score|^2 and |last + step proposal_score|^2.
    A proposal_energy of -infinity is never accepted."""

    x: Annotated[Tensor, Is(Shape.SAMPLES, Dtype.FLOATS, contiguous=True), Written]
    score: Annotated[Tensor, ROW, Written]
    energy: Annotated[Tensor, DOUBLES, Written]
    accepted: Annotated[Tensor, Is(Shape.BATCH, Dtype.LONG, contiguous=True), Written]
    accept: Annotated[Tensor, Is(Shape.BATCH, Dtype.BOOL, contiguous=True), Written]
    log_alpha: Annotated[Tensor, DOUBLES, Written]
    proposal: Annotated[Tensor, ROW]
    proposal_score: Annotated[Tensor, ROW]
    proposal_energy: Annotated[Tensor, Is(Shape.BATCH, Dtype.REAL)]
    step: Finite
    scale: float
    temperature: Positive
    name: Name
    first: Annotated[Tensor | None, LIKE, With("last")] = None
    last: Annotated[Tensor | None, LIKE] = None
    step_rows: Annotated[Tensor | None, Is(Shape.ABOVE_ROWS, Dtype.REAL)] = None
    scale_rows: Annotated[Tensor | None, Is(Shape.ABOVE_ROWS, Dtype.REAL)] = None
    seeds: PerSample = None
    ids: PerSample = None


class Averaging(NamedTuple):
    """The dual averaging that each chain's step size goes through in the first steps. The rows of
    ``averaging`` (4, B) are the arguments of dual_averaging: step_size, log_average, gap and
    middle. They take the place of the chain's step_size. ``averaged`` of the ``warmup`` steps are
    done; the steps after them leave the step size at the average."""

    acceptance: Annotated[float | None, Number(0.0, 1.0, low_open=True), With("warmup")] = None
    warmup: Annotated[int | None, Between(0), With("averaged")] = None
    averaged: Annotated[int | None, Between(0), With("averaging")] = None
    averaging: Annotated[Tensor | None, Is(Shape.TABLE, Dtype.DOUBLE, contiguous=True), Written] = None


class MetropolisChain(NamedTuple):
    """Steps of MALA (n_leapfrog = 0) or HMC in place, each with the bits of the ops that take one.
    temperature_rows (n_steps,) has the temperature of each step. ``name`` names the proposals'
    noise; the accept tests draw from the next stream. Where jitter > 0 spreads HMC's step sizes
    around step_size, they draw from the stream after that.

    The chain lives on the elements of the mask. root is 1 / sqrt(mass), for x in float32 or
    float64; ``score`` is the score times root, and 0 outside of the mask. With thin, states gets
    the state after every thin-th step, and reports (4 (n_steps // thin), B) its energy, log_alpha,
    decision and step size without jitter. It is a kernel on the CPU.
    """

    x: Annotated[Tensor, SAMPLES, Written]
    score: Annotated[Tensor, LIKE, Written]
    energy: Annotated[Tensor, DOUBLES, Written]
    accepted: Annotated[Tensor, Is(Shape.BATCH, Dtype.LONG, contiguous=True), Written]
    accept: Annotated[Tensor, Is(Shape.BATCH, Dtype.BOOL, contiguous=True), Written]
    log_alpha: Annotated[Tensor, DOUBLES, Written]
    density: Density
    constant: Finite
    n_steps: Annotated[int, Between(0)]
    n_leapfrog: Annotated[int, Between(0, 2**20)]
    step_size: Positive
    temperature: Positive
    name: Name
    jitter: Annotated[float, Number(0.0, 1.0)]
    averages: Averaging = Averaging()
    step_size_rows: Schedule = None
    step_size_per_step: bool | None = None
    temperature_rows: Annotated[Tensor | None, Is(Shape.FLAT, Dtype.DOUBLE, contiguous=True)] = None
    reports: Annotated[
        Tensor | None, Is(Shape.TABLE, Dtype.DOUBLE, contiguous=True), Written, With("states")
    ] = None
    states: Annotated[Tensor | None, Is(Shape.STATES, Dtype.SAME, contiguous=True), Written, With("thin")] = (
        None
    )
    thin: Annotated[int | None, Between(1)] = None
    mask: Annotated[Tensor | None, Is(Shape.LIKE, Dtype.BOOL)] = None
    root: Annotated[Tensor | None, LIKE] = None
    seeds: PerSample = None
    ids: PerSample = None


class DualAveraging(NamedTuple):
    """One step of dual averaging (Hoffman & Gelman 2014): updates step_size, log_average and gap of
    each sample or, with ``together``, of all samples by their mean acceptance. ``steps`` counts the
    steps in a float64; after the warm-up the averages stay."""

    step_size: Annotated[Tensor, Is(Shape.SAMPLES, Dtype.DOUBLE, contiguous=True), Written]
    log_average: Annotated[Tensor, ROW, Written]
    gap: Annotated[Tensor, ROW, Written]
    steps: Annotated[Tensor, Is(Shape.ONE, Dtype.DOUBLE), Written]
    log_alpha: Annotated[Tensor, ROW]
    middle: Annotated[Tensor, ROW]
    warmup: Annotated[int, Between(0)]
    target: Annotated[float, Number(0.0, 1.0, low_open=True)]
    together: bool
