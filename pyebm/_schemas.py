"""The ops by name, each a named tuple of its arguments; and the numbering of targets, activations
and reductions.

A field's type gives the schema, and its annotations say which tensors it takes (_arguments.py).
From both follow the checks of every backend (_op_checks.py, csrc/common/op_checks.h) and the
structs that the C++ kernels are given (csrc/common/op_args.h, written by tools/op_args.py). The
Triton kernels and the reference read the fields by name.

A new op is a named tuple here, with its name in ``_RECORDS``; ``python tools/op_args.py``; then a
function of its name that takes ``args::Record`` and ``PYEBM_IMPL`` in csrc/cpu (and csrc/cuda), or
``@entry(Record)`` in reference/ and kernels/. The tests of hostile calls find it by themselves. A
group of arguments that several ops share is a named tuple of its own.

Every op writes into tensors that the caller allocated, so that memory format and dtype are decided
in one place (the functional layer) and a kernel is only arithmetic. Conventions shared by all of
them:

- a coefficient is a number ``c`` or, where given, ``c_rows``: n float32/float64 values. Each serves
  ``x.numel() / n`` consecutive elements of x, in logical order: one value for all, or one per
  sample, per token of a sample, per element;
- noise is named by ``Tensor name`` = int64 (seed, first_sample, step, stream), with
  ``Tensor? seeds`` and ``Tensor? ids`` (int64, one per sample) in place of the first two where
  given. It is data, never a launch argument, so that nothing is compiled again, or replayed, when
  the seed or the step changes;
- the arguments that most calls don't need come last and default to None: an argument costs 0.15 us
  (``_ops.call``).
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from torch import Tensor

from ._arguments import Apart, Between, Dtype, Is, NoNan, Number, Op, Shape, With, Written

# The closed-form targets with kernels: an op's ``target`` is an index in this list.
# csrc/common/targets.h has the same list.
TARGETS = (
    *("harmonic", "double_well", "gaussian", "polynomial", "rastrigin", "rosenbrock", "ackley", "funnel"),
    *("mixture", "mixture_diagonal", "gaussian_full"),
)

# The activations that a network's layers may have: ``layout`` holds indices in this list.
# csrc/cpu/simd/network.h has the same list.
ACTIVATIONS = (
    "identity",
    "silu",
    "tanh",
    "softplus",
    "sigmoid",
    "gelu",
    "gelu_tanh",
    "elu",
    "relu",
    "leaky_relu",
)

REDUCTIONS = {"none": 0, "sample": 1, "sum": 2, "mean": 3, "batchmean": 4}

SAMPLES = Is(Shape.SAMPLES, Dtype.FLOATS)
LIKE = Is(Shape.LIKE, Dtype.SAME)
ROW = Is(Shape.LIKE, Dtype.SAME, contiguous=True)
DOUBLES = Is(Shape.BATCH, Dtype.DOUBLE, contiguous=True)

Name = Annotated[Tensor, Is(Shape.NAME, Dtype.LONG, contiguous=True)]
PerSample = Annotated[Tensor | None, Is(Shape.BATCH, Dtype.LONG, contiguous=True)]
Rows = Annotated[Tensor | None, Is(Shape.ROWS, Dtype.REAL)]
Schedule = Annotated[Tensor | None, Is(Shape.SCHEDULE, Dtype.REAL)]
Target = Annotated[int, Between(0, len(TARGETS))]
Params = Annotated[Tensor, Is(Shape.FLAT, Dtype.WORK, contiguous=True)]
Finite = Annotated[float, Number()]
Positive = Annotated[float, Number(0.0, low_open=True)]
NotNegative = Annotated[float, Number(0.0)]
Limit = Annotated[float | None, NoNan]
Layout = Annotated[Tensor, Is(Shape.FLAT, Dtype.LONG, contiguous=True, on_host=True)]
Biases = Annotated[Tensor | None, Is(Shape.TABLE, Dtype.WORK, contiguous=True)]


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
    low: Limit = None
    high: Limit = None
    score_clip: Limit = None
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


class CorrectorStep(NamedTuple):
    """A Langevin step in place, of size factor |z|^2 / |score|^2, where z is the step's own noise.
    The norms are each sample's own or, with ``together``, their means over the batch. It runs where
    metropolis does."""

    x: Annotated[Tensor, SAMPLES, Written]
    score: Annotated[Tensor, LIKE]
    factor: NotNegative
    name: Name
    together: bool
    mask: Annotated[Tensor | None, Is(Shape.LIKE, Dtype.BOOL)] = None
    low: Limit = None
    high: Limit = None
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
    """The score and the energies of a target in reference.ENERGIES; ``constant`` is added to each
    energy. It is a kernel on the CPU; elsewhere the energy is made of torch's operations."""

    energy: Annotated[Tensor, Is(Shape.BATCH, Dtype.REAL, contiguous=True), Written]
    score: Annotated[Tensor, LIKE, Written]
    x: Annotated[Tensor, SAMPLES, Apart]
    target: Target
    params: Params
    constant: Finite


class ChainSteps(NamedTuple):
    """The steps of a chain and the tensors that they fill. With thin, states gets the state after
    every thin-th step. per_step: the rows hold one value per step, not per sample. Only the CPU
    takes a mask and a score_clip."""

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
    low: Limit = None
    high: Limit = None
    seeds: PerSample = None
    ids: PerSample = None
    mask: Annotated[Tensor | None, Is(Shape.LIKE, Dtype.BOOL)] = None
    score_clip: Limit = None


class LangevinChain(NamedTuple):
    """Langevin steps in place. ``name`` names the noise of the first step."""

    x: Annotated[Tensor, SAMPLES, Written]
    target: Target
    params: Params
    steps: ChainSteps


class NetworkScore(NamedTuple):
    """The score of a network of dense layers. layout holds kind (0: an energy, 1: a score), D, L,
    and for each layer its outputs, its index in ACTIVATIONS, and 0 or 1 for residual and for skip.
    params holds for each layer W, row by row, b, and the activation's parameter (else 0); the last
    number is q, since q |x|^2 is added to the energy. A residual layer is h + act(W h + b); with a
    skip W has columns for [h; x]. biases, (1 or B, all outputs), replace all b. energy is written
    for an energy only, and is cheaper without the score. It is a kernel on the CPU."""

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
    (1 or B, K D): K directions for all samples or for each. The gradients are as in NetworkGrad."""

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


class NetworkChain(NamedTuple):
    """A langevin_chain on a network. With biases_per_step, biases has a row for each step."""

    x: Annotated[Tensor, SAMPLES, Written]
    layout: Layout
    params: Params
    steps: ChainSteps
    biases: Biases = None
    biases_per_step: bool | None = None


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
    low: Limit = None
    high: Limit = None
    score_clip: Limit = None
    seeds: PerSample = None
    ids: PerSample = None


class PredictorCorrector(NamedTuple):
    """The times of a reverse diffusion in place, with the score of a network. Each time takes
    corrector_steps, whose noise comes from the next streams, then, with ``predicts``, an
    affine_step. coefficients has a row (factor, a, b, c) for each time, biases one row for all
    times or one for each. It is a kernel on the CPU."""

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
    low: Limit = None
    high: Limit = None
    seeds: PerSample = None
    ids: PerSample = None


class Leapfrog(NamedTuple):
    """HMC's kick and drift: p = from_p + step_size score, if a score is given, then x = from_x +
    step_size p; from_* = None means in place. If the step size is a number, its product is rounded
    to x's dtype; if there is one per sample, it is not. It runs where metropolis does."""

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
    A proposal_energy of -infinity is never accepted. It is a kernel on the CPU, for contiguous
    tensors; elsewhere the reference does it, around the backend's uniform_ and denoising_loss."""

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


class MetropolisChain(NamedTuple):
    """Steps of MALA (n_leapfrog = 0) or HMC in place, each with the bits of the ops that take one.
    ``name`` names the proposals' noise; the accept tests draw from the next stream. Where jitter >
    0 spreads HMC's step sizes around step_size, they draw from the stream after that. It is a
    kernel on the CPU, for samples of 1 to 512 elements."""

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
    step_size_rows: Annotated[Tensor | None, Is(Shape.ABOVE_ROWS, Dtype.REAL)] = None
    seeds: PerSample = None
    ids: PerSample = None


class DualAveraging(NamedTuple):
    """One step of dual averaging (Hoffman & Gelman 2014): updates step_size, log_average and gap of
    each sample or, with ``together``, of all samples by their mean acceptance. ``steps`` counts the
    steps in a float64; after the warm-up the averages stay. It runs where metropolis does."""

    step_size: Annotated[Tensor, Is(Shape.SAMPLES, Dtype.DOUBLE, contiguous=True), Written]
    log_average: Annotated[Tensor, ROW, Written]
    gap: Annotated[Tensor, ROW, Written]
    steps: Annotated[Tensor, Is(Shape.ONE, Dtype.DOUBLE), Written]
    log_alpha: Annotated[Tensor, ROW]
    middle: Annotated[Tensor, ROW]
    warmup: Annotated[int, Between(0)]
    target: Annotated[float, Number(0.0, 1.0, low_open=True)]
    together: bool


class LossTerms(NamedTuple):
    """The arguments of the denoising losses after the prediction: the coefficients and the noise of
    the residual (kappa pred + lam z) + mu x0, the weight and the reduction."""

    kappa: Finite
    lam: Finite
    mu: Finite
    weight: Finite
    factor: Finite
    over_kappa2: bool
    reduction: Annotated[int, Between(0, len(REDUCTIONS))]
    name: Annotated[Tensor | None, Is(Shape.NAME, Dtype.LONG, contiguous=True)]
    kappa_rows: Rows = None
    lam_rows: Rows = None
    mu_rows: Rows = None
    weight_rows: Rows = None
    z: Annotated[Tensor | None, LIKE] = None
    x0: Annotated[Tensor | None, LIKE] = None
    seeds: PerSample = None
    ids: PerSample = None
    kappa_positive: bool | None = None


class DenoisingLoss(NamedTuple):
    """The loss. grad, where given, gets the gradient for grad_output = 1 in the same pass."""

    loss: Annotated[Tensor, Is(Shape.LOSS, Dtype.REAL), Written]
    grad: Annotated[Tensor | None, LIKE, Written]
    pred: Annotated[Tensor, SAMPLES]
    terms: LossTerms


class DenoisingGrad(NamedTuple):
    grad: Annotated[Tensor, LIKE, Written]
    grad_output: Annotated[Tensor, Is(Shape.ABOVE, Dtype.REAL)]
    pred: Annotated[Tensor, SAMPLES]
    terms: LossTerms


class Scale(NamedTuple):
    grad: Annotated[Tensor, SAMPLES, Written]
    grad_output: Annotated[Tensor, Is(Shape.ABOVE_ROWS, Dtype.REAL)]


_RECORDS: dict[str, type[Any]] = {
    "normal_": Fill,
    "uniform_": Fill,
    "perturb": Perturb,
    "langevin_step": LangevinStep,
    "affine_step": AffineStep,
    "corrector_step": CorrectorStep,
    "target_score": TargetScore,
    "target_energy": TargetEnergy,
    "langevin_chain": LangevinChain,
    "network_score": NetworkScore,
    "network_hvp": NetworkHvp,
    "network_grad": NetworkGrad,
    "network_loss": NetworkLoss,
    "network_laplacian": NetworkLaplacian,
    "network_chain": NetworkChain,
    "underdamped_chain": UnderdampedChain,
    "predictor_corrector": PredictorCorrector,
    "leapfrog": Leapfrog,
    "metropolis": Metropolis,
    "metropolis_chain": MetropolisChain,
    "dual_averaging": DualAveraging,
    "denoising_loss": DenoisingLoss,
    "denoising_grad": DenoisingGrad,
    "scale_": Scale,
}

OPS = {name: Op(name, record) for name, record in _RECORDS.items()}
SCHEMAS = {name: op.schema for name, op in OPS.items()}
