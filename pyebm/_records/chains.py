"""Many steps in one launch, on closed-form targets and on networks."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from torch import Tensor

from .._arguments import Between, Dtype, Is, Shape, With, Written
from .types import (
    LIKE,
    SAMPLES,
    Biases,
    Clip,
    High,
    Layout,
    Low,
    Marginals,
    Name,
    NotNegative,
    Params,
    PerSample,
    Positive,
    Schedule,
    Target,
)


class ChainSteps(NamedTuple):
    """The steps of a chain and the tensors that they fill. With thin, states gets the state after
    every thin-th step. per_step: the rows hold one value per step, not per sample. On a closed-form
    target only the CPU takes a mask and a score_clip."""

    n_steps: Annotated[int, Between(0)]
    step_size: Positive
    temperature: NotNegative
    name: Name
    step_size_rows: Schedule = None
    temperature_rows: Schedule = None
    step_size_per_step: bool | None = None
    temperature_per_step: bool | None = None
    states: Annotated[Tensor | None, Is(Shape.STATES, Dtype.SAME, contiguous=True), Written, With("thin")] = (
        None
    )
    thin: Annotated[int | None, Between(1)] = None
    diverged: Annotated[Tensor | None, Is(Shape.BATCH, Dtype.LONG, contiguous=True), Written] = None
    low: Low = None
    high: High = None
    seeds: PerSample = None
    ids: PerSample = None
    mask: Annotated[Tensor | None, Is(Shape.LIKE, Dtype.BOOL)] = None
    score_clip: Clip = None


class LangevinChain(NamedTuple):
    """Langevin steps in place. ``name`` names the noise of the first step."""

    x: Annotated[Tensor, SAMPLES, Written]
    target: Target
    params: Params
    steps: ChainSteps


class NetworkChain(NamedTuple):
    """A langevin_chain on a network. With biases_per_step, biases has a row for each step. Before
    each score the elements outside of the mask become alpha known + sigma z, if known is given:
    marginals has a row (alpha, sigma) for each step, and the noise comes from the next stream."""

    x: Annotated[Tensor, SAMPLES, Written]
    layout: Layout
    params: Params
    steps: ChainSteps
    biases: Biases = None
    biases_per_step: bool | None = None
    known: Annotated[Tensor | None, LIKE, With("marginals")] = None
    marginals: Marginals = None


class Density(NamedTuple):
    """A chain's target: TARGETS[target] or, if a layout is given, a network (NetworkScore), for
    which ``target`` is not read."""

    target: Target
    params: Params
    layout: Annotated[Tensor | None, Is(Shape.FLAT, Dtype.LONG, contiguous=True, on_host=True)]
    biases: Biases


class UnderdampedChain(NamedTuple):
    """Steps of underdamped dynamics in place: x = (x + b w) + c z, then w = (d w + e score) + f z
    with the same z. coefficients has one row (b, c, d, e, f) for all steps or one for each. The
    clamp applies to x, the clip to the score. It is a kernel on the CPU."""

    x: Annotated[Tensor, SAMPLES, Written]
    velocity: Annotated[Tensor, LIKE, Written]
    density: Density
    coefficients: Annotated[Tensor, Is(Shape.TABLE, Dtype.DOUBLE, contiguous=True)]
    n_steps: Annotated[int, Between(0)]
    name: Name
    states: Annotated[Tensor | None, Is(Shape.STATES, Dtype.SAME, contiguous=True), Written, With("thin")] = (
        None
    )
    thin: Annotated[int | None, Between(1)] = None
    mask: Annotated[Tensor | None, Is(Shape.LIKE, Dtype.BOOL)] = None
    low: Low = None
    high: High = None
    score_clip: Clip = None
    seeds: PerSample = None
    ids: PerSample = None


class PredictorCorrector(NamedTuple):
    """The times of a reverse diffusion in place, with the score of a network. Each time takes
    corrector_steps, whose noise comes from the next streams, then, with ``predicts``, an
    affine_step. coefficients has a row (factor, a, b, c) for each time, biases one row for all
    times or one for each. Known elements are as in a network_chain; the noise of each score's comes
    from the streams after the correctors'. It is a kernel on the CPU."""

    x: Annotated[Tensor, SAMPLES, Written]
    layout: Layout
    params: Params
    biases: Annotated[Tensor, Is(Shape.TABLE, Dtype.WORK, contiguous=True)]
    coefficients: Annotated[Tensor, Is(Shape.TABLE, Dtype.DOUBLE, contiguous=True)]
    n_steps: Annotated[int, Between(0)]
    correctors: Annotated[int, Between(0, 2**31)]
    predicts: bool
    together: bool
    name: Name
    states: Annotated[Tensor | None, Is(Shape.STATES, Dtype.SAME, contiguous=True), Written, With("thin")] = (
        None
    )
    thin: Annotated[int | None, Between(1)] = None
    mask: Annotated[Tensor | None, Is(Shape.LIKE, Dtype.BOOL)] = None
    low: Low = None
    high: High = None
    seeds: PerSample = None
    ids: PerSample = None
    known: Annotated[Tensor | None, LIKE, With("marginals")] = None
    marginals: Marginals = None
