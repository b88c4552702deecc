"""A network's score, energy and derivatives."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from torch import Tensor

from .._arguments import Apart, Dtype, Is, Shape, Written
from .types import LIKE, SAMPLES, Biases, Finite, Layout, Params, PerSample


class NetworkScore(NamedTuple):
    """The score of a network of dense layers. layout holds kind (0: an energy, 1: a score), D, L,
    and for each layer its outputs, its index in ACTIVATIONS, and 0 or 1 for residual and for skip.
    params holds for each layer W, row by row, b, and the activation's parameter (else 0); the last
    number is q, since q |x|^2 is added to the energy. A residual layer is h + act(W h + b); with a
    skip W has columns for [h; x]. biases, (1 or B, all outputs), replace all b. energy is written
    for an energy only, and is cheaper without the score."""

    score: Annotated[Tensor | None, LIKE, Written]
    x: Annotated[Tensor, SAMPLES, Apart]
    layout: Layout
    params: Params
    biases: Biases = None
    energy: Annotated[Tensor | None, Is(Shape.BATCH, Dtype.REAL, contiguous=True), Written] = None


class NetworkHvp(NamedTuple):
    """The Hessian of an energy at x times v."""

    out: Annotated[Tensor, LIKE, Written]
    x: Annotated[Tensor, SAMPLES, Apart]
    v: Annotated[Tensor, LIKE, Apart]
    layout: Layout
    params: Params
    biases: Biases = None


class NetworkGrad(NamedTuple):
    """The gradients of energy_above . energies + score_above . scores by params, in their layout,
    and by x. Where biases are given, grad_biases gets the gradient by them, in place of that by b.
    The sum over the batch is made in parts that depend on the batch's size alone."""

    grad: Annotated[Tensor | None, Is(Shape.FLAT, Dtype.WORK, contiguous=True), Written]
    x: Annotated[Tensor, SAMPLES, Apart]
    layout: Layout
    params: Params
    energy_above: Annotated[Tensor | None, Is(Shape.BATCH, Dtype.WORK, contiguous=True)] = None
    score_above: Annotated[Tensor | None, LIKE, Apart] = None
    biases: Biases = None
    grad_biases: Annotated[Biases, Written] = None
    grad_x: Annotated[Tensor | None, LIKE, Written] = None


class NetworkLoss(NamedTuple):
    """A loss, of each sample or their sum, and where wanted its gradient, from one pass. The loss
    is weight (1/2 |kappa s + z|^2 + trace sum_k v_k . (ds/dx) v_k); with ``along`` the sum of
    (v_k . s)^2 replaces the square; with ``of_energy`` it is weight E + square E^2. v is
    (1 or B, K D): K directions for all samples or for each. With a name,
    everything is evaluated at x + kappa z, and z is the noise that it names unless z is given. The
    gradients are as in NetworkGrad."""

    loss: Annotated[Tensor, Is(Shape.ABOVE_ROWS, Dtype.REAL, contiguous=True), Written]
    grad: Annotated[Tensor | None, Is(Shape.FLAT, Dtype.WORK, contiguous=True), Written]
    x: Annotated[Tensor, SAMPLES, Apart]
    layout: Layout
    params: Params
    of_energy: bool
    weight: Finite
    kappa: Finite
    trace: Finite
    square: Finite
    along: bool
    weight_rows: Annotated[Tensor | None, Is(Shape.ABOVE_ROWS, Dtype.REAL)] = None
    kappa_rows: Annotated[Tensor | None, Is(Shape.ABOVE_ROWS, Dtype.REAL)] = None
    z: Annotated[Tensor | None, LIKE, Apart] = None
    name: Annotated[Tensor | None, Is(Shape.NAME, Dtype.LONG, contiguous=True)] = None
    seeds: PerSample = None
    ids: PerSample = None
    v: Biases = None
    biases: Biases = None
    grad_biases: Annotated[Biases, Written] = None
    grad_x: Annotated[Tensor | None, LIKE, Written] = None


class NetworkLaplacian(NamedTuple):
    """The trace of an energy's Hessian."""

    out: Annotated[Tensor, Is(Shape.BATCH, Dtype.WORK, contiguous=True), Written]
    x: Annotated[Tensor, SAMPLES]
    layout: Layout
    params: Params
    biases: Biases = None
