"""The ops by name, with their arguments; the targets and reductions that they count.

Every op writes into tensors that the caller allocated, so that memory format and dtype are decided in one place (the
functional layer) and a kernel is only arithmetic. Conventions shared by all of them:

- a coefficient is a number ``c`` or, where given, ``c_rows``: n float32/float64 values, each of which serves the next
  ``x.numel() / n`` elements of x in logical order: one for all, one per sample, per token of a sample, per element;
- noise is named by ``Tensor name`` = int64 (seed, first_sample, step, stream), with ``Tensor? seeds`` and ``Tensor? ids``
  (int64, one per sample) in place of the first two where given. It is data, never a launch argument, so that nothing is
  compiled again, or replayed, when the seed or the step changes;
- what most calls don't need comes last and defaults to None: an argument costs 0.15 us (``_ops.call``).
"""

from __future__ import annotations

_ROWS = "Tensor? seeds=None, Tensor? ids=None"
_STEP = f"Tensor(b!)? mean=None, Tensor? mask=None, float? low=None, float? high=None, float? score_clip=None, {_ROWS}"
_LOSS = (
    "float kappa, float lam, float mu, float weight, float factor, bool over_kappa2, int reduction, Tensor? name, "
    "Tensor? kappa_rows=None, Tensor? lam_rows=None, Tensor? mu_rows=None, Tensor? weight_rows=None, "
    f"Tensor? z=None, Tensor? x0=None, {_ROWS}, bool? kappa_positive=None"
)

SCHEMAS = {
    "normal_": f"(Tensor(a!) out, Tensor name, {_ROWS}) -> ()",
    "uniform_": f"(Tensor(a!) out, Tensor name, {_ROWS}) -> ()",
    "perturb": "(Tensor(a!) out, Tensor x, float alpha, float sigma, Tensor name, "
    f"Tensor? alpha_rows=None, Tensor? sigma_rows=None, {_ROWS}) -> ()",
    # x = None means in place: out is read, then written.
    "langevin_step": "(Tensor(a!) out, Tensor? x, Tensor score, float step_size, float temperature, Tensor name, "
    f"Tensor? step_size_rows=None, Tensor? temperature_rows=None, {_STEP}) -> ()",
    "affine_step": "(Tensor(a!) out, Tensor? x, Tensor score, float a, float b, float c, Tensor name, "
    f"Tensor? a_rows=None, Tensor? b_rows=None, Tensor? c_rows=None, {_STEP}) -> ()",
    # In place, a Langevin step of size factor |z|^2 / |score|^2, z its own noise: the norms each sample's or, together, their means
    # over the batch. Where it runs: as metropolis.
    "corrector_step": "(Tensor(a!) x, Tensor score, float factor, Tensor name, bool together, "
    f"Tensor? mask=None, float? low=None, float? high=None, {_ROWS}) -> ()",
    # The score of TARGETS[target]; params: all of its numbers, flat, in the dtype that x is computed in.
    "target_score": "(Tensor(a!) out, Tensor x, int target, Tensor params) -> ()",
    # The same with the energies, (B,), float32 or float64; constant is added to each. Of the targets in reference.ENERGIES.
    # A kernel on the CPU; elsewhere the energy is torch's operations.
    "target_energy": "(Tensor(a!) energy, Tensor(b!) score, Tensor x, int target, Tensor params, float constant) -> ()",
    # n_steps Langevin steps in place, the first with the noise that name names. With thin, states (n_steps // thin, ...) gets the
    # state after every thin-th step. per_step: the rows hold one value per step, not per sample. diverged: int64 (samples).
    "langevin_chain": "(Tensor(a!) x, int target, Tensor params, int n_steps, float step_size, float temperature, Tensor name, "
    "Tensor? step_size_rows=None, Tensor? temperature_rows=None, bool? step_size_per_step=None, bool? temperature_per_step=None, "
    f"Tensor(b!)? states=None, int? thin=None, Tensor(c!)? diverged=None, float? low=None, float? high=None, {_ROWS}) -> ()",
    # The score of a network of dense layers. layout, int64: kind (0: an energy, 1: a score), D, L, and for each layer its
    # outputs, its index in ACTIVATIONS, residual?, skip?. params, in the dtype that x is computed in: for each layer W,
    # row by row, b, and the activation's parameter (else 0); last q, as q |x|^2 is added to the energy. A residual layer
    # is h + act(W h + b); with a skip W has columns for [h; x]. biases, (1 or B, all outputs), stand for all b.
    # energy: (B,), float32 or float64, of an energy only. A kernel on the CPU.
    "network_score": "(Tensor(a!) score, Tensor x, Tensor layout, Tensor params, Tensor? biases=None, "
    "Tensor(b!)? energy=None) -> ()",
    # Of an energy: its Hessian at x times v, both of x's shape and dtype.
    "network_hvp": "(Tensor(a!) out, Tensor x, Tensor v, Tensor layout, Tensor params, Tensor? biases=None) -> ()",
    # langevin_chain on a network. With biases_per_step, biases has a row for each step.
    "network_chain": "(Tensor(a!) x, Tensor layout, Tensor params, int n_steps, float step_size, float temperature, Tensor name, "
    "Tensor? step_size_rows=None, Tensor? temperature_rows=None, bool? step_size_per_step=None, bool? temperature_per_step=None, "
    f"Tensor(b!)? states=None, int? thin=None, Tensor(c!)? diverged=None, float? low=None, float? high=None, {_ROWS}, "
    "Tensor? biases=None, bool? biases_per_step=None, float? score_clip=None) -> ()",
    # HMC's kick and drift: p = from_p + step_size score, where given, then x = from_x + step_size p; from_* = None means in place.
    # A step size that is a number is rounded to x's dtype with its product, one a sample is not. Where it runs: as metropolis.
    "leapfrog": "(Tensor(a!) x, Tensor(b!) p, float step_size, Tensor? score=None, Tensor? from_x=None, Tensor? from_p=None, "
    "Tensor? step_size_rows=None) -> ()",
    # x, score and energy become those of the proposal where log u < log_alpha = (energy - proposal_energy) / temperature +
    # (before - after) / scale, u the sample's uniform; accepted counts them. The last two are sums of squares as the loss kernel
    # makes them: MALA's |proposal - x - step score|^2 and |x - proposal - step proposal_score|^2; where first and last are given,
    # HMC's |first - step score|^2 and |last + step proposal_score|^2. A kernel on the CPU, whose tensors are contiguous; elsewhere
    # the reference does it, around the backend's uniform_ and denoising_loss.
    # A proposal_energy of -infinity is never taken.
    "metropolis": "(Tensor(a!) x, Tensor(b!) score, Tensor(c!) energy, Tensor(d!) accepted, Tensor(e!) accept, "
    "Tensor(f!) log_alpha, Tensor proposal, Tensor proposal_score, Tensor proposal_energy, float step, float scale, "
    "float temperature, Tensor name, Tensor? first=None, Tensor? last=None, Tensor? step_rows=None, Tensor? scale_rows=None, "
    f"{_ROWS}) -> ()",
    # One more of the steps, counted in a float64: step_size, log_average and gap (Hoffman & Gelman 2014) of each sample or,
    # together, by their mean acceptance; nothing beyond the warm-up. Where it runs: as metropolis.
    "dual_averaging": "(Tensor(a!) step_size, Tensor(b!) log_average, Tensor(c!) gap, Tensor(d!) steps, Tensor log_alpha, "
    "Tensor middle, int warmup, float target, bool together) -> ()",
    # grad, where given, is the gradient for grad_output = 1, left by the same pass.
    "denoising_loss": f"(Tensor(a!) loss, Tensor(b!)? grad, Tensor pred, {_LOSS}) -> ()",
    "denoising_grad": f"(Tensor(a!) grad, Tensor grad_output, Tensor pred, {_LOSS}) -> ()",
    "scale_": "(Tensor(a!) grad, Tensor grad_output) -> ()",
}

# The closed-form targets with kernels: the ops' ``target`` counts them. csrc/common/targets.h has the same list.
TARGETS = (
    *("harmonic", "double_well", "gaussian", "polynomial", "rastrigin", "rosenbrock", "ackley", "funnel"),
    *("mixture", "mixture_diagonal", "gaussian_full"),
)

# What a network's layers may have: ``layout`` counts them. csrc/cpu/network.h has the same list.
ACTIVATIONS = ("identity", "silu", "tanh", "softplus", "sigmoid", "gelu", "gelu_tanh", "elu", "relu", "leaky_relu")

REDUCTIONS = {"none": 0, "sample": 1, "sum": 2, "mean": 3, "batchmean": 4}
