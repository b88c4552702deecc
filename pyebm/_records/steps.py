"""The noise, the perturbation, the steps, and a target's score and energy."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from torch import Tensor

from .._arguments import Apart, Dtype, Is, Shape, Written
from .types import (
    LIKE,
    SAMPLES,
    Clip,
    Finite,
    High,
    Low,
    Name,
    NotNegative,
    Params,
    PerSample,
    Positive,
    Rows,
    Target,
)


class Fill(NamedTuple):
    """``normal_`` and ``uniform_``: the noise contract's numbers."""

    out: Annotated[Tensor, SAMPLES, Written]
    name: Name
    seeds: PerSample = None
    ids: PerSample = None


class Perturb(NamedTuple):
    out: Annotated[Tensor, SAMPLES, Written]
    x: Annotated[Tensor, LIKE]
    alpha: Finite
    sigma: NotNegative
    name: Name
    alpha_rows: Rows = None
    sigma_rows: Rows = None
    seeds: PerSample = None
    ids: PerSample = None


class StepOptions(NamedTuple):
    """The arguments of a step after its coefficients."""

    mean: Annotated[Tensor | None, LIKE, Written] = None
    mask: Annotated[Tensor | None, Is(Shape.LIKE, Dtype.BOOL)] = None
    low: Low = None
    high: High = None
    score_clip: Clip = None
    seeds: PerSample = None
    ids: PerSample = None


class LangevinStep(NamedTuple):
    """One Langevin step. x = None means in place: out is read, then written."""

    out: Annotated[Tensor, SAMPLES, Written]
    x: Annotated[Tensor | None, LIKE]
    score: Annotated[Tensor, LIKE]
    step_size: Positive
    temperature: NotNegative
    name: Name
    step_size_rows: Rows = None
    temperature_rows: Rows = None
    options: StepOptions = StepOptions()


class AffineStep(NamedTuple):
    out: Annotated[Tensor, SAMPLES, Written]
    x: Annotated[Tensor | None, LIKE]
    score: Annotated[Tensor, LIKE]
    a: Finite
    b: Finite
    c: Finite
    name: Name
    a_rows: Rows = None
    b_rows: Rows = None
    c_rows: Rows = None
    options: StepOptions = StepOptions()


class PredictedStep(NamedTuple):
    """Two affine steps in one pass: ``x0 = clamp(a x + b score)``, the sample that a network's
    output stands for, and ``out = (of_x x + of_x0 x0) + c z``, the draw that follows from it."""

    out: Annotated[Tensor, SAMPLES, Written]
    x0: Annotated[Tensor, LIKE, Written]
    x: Annotated[Tensor, LIKE, Apart]
    score: Annotated[Tensor, LIKE, Apart]
    a: Finite
    b: Finite
    of_x: Finite
    of_x0: Finite
    c: Finite
    name: Name
    low: Low = None
    high: High = None
    seeds: PerSample = None
    ids: PerSample = None


class CorrectorStep(NamedTuple):
    """A Langevin step in place, of size factor |z|^2 / |score|^2, where z is the step's own noise.
    The norms are each sample's own or, with ``together``, their means over the batch."""

    x: Annotated[Tensor, SAMPLES, Written]
    score: Annotated[Tensor, LIKE]
    factor: NotNegative
    name: Name
    together: bool
    mask: Annotated[Tensor | None, Is(Shape.LIKE, Dtype.BOOL)] = None
    low: Low = None
    high: High = None
    seeds: PerSample = None
    ids: PerSample = None


class TargetScore(NamedTuple):
    """The score of TARGETS[target]. params holds all of the target's numbers, flat, in the dtype
    that x is computed in."""

    out: Annotated[Tensor, LIKE, Written]
    x: Annotated[Tensor, SAMPLES, Apart]
    target: Target
    params: Params


class TargetEnergy(NamedTuple):
    """The score and the energies of a target in _composed.ENERGIES; ``constant`` is added to each
    energy. On a GPU dense targets have no kernel of it."""

    energy: Annotated[Tensor, Is(Shape.BATCH, Dtype.REAL, contiguous=True), Written]
    score: Annotated[Tensor, LIKE, Written]
    x: Annotated[Tensor, SAMPLES, Apart]
    target: Target
    params: Params
    constant: Finite
