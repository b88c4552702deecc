"""The ops by name, each a named tuple of its arguments; and the numbering of targets, activations
and reductions.

A field's type gives the schema, and its annotations say which tensors it takes (_arguments.py).
From both follow the checks of every backend (_op_checks.py, csrc/common/op_checks.h) and the
structs that the C++ kernels are given (csrc/common/op_args.h, written by tools/op_args.py). The
Triton kernels and the reference read the fields by name.

A new op is a named tuple in _records/, with its name in ``_RECORDS``; ``python tools/op_args.py``;
then a function of its name that takes ``args::Record`` and ``PYEBM_IMPL`` in csrc/cpu (and
csrc/cuda), or ``@entry(Record)`` in reference/ and kernels/. The tests of hostile calls find it by
themselves. A group of arguments that several ops share is a named tuple of its own.

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

from typing import Any

from ._arguments import Op
from ._kinds import KINDS, TARGETS
from ._records.chains import (
    ChainSteps,
    Density,
    LangevinChain,
    NetworkChain,
    PredictorCorrector,
    UnderdampedChain,
)
from ._records.losses import DenoisingGrad, DenoisingLoss, LossTerms, Scale
from ._records.metropolis import DualAveraging, Leapfrog, Metropolis, MetropolisChain
from ._records.networks import NetworkGrad, NetworkHvp, NetworkLaplacian, NetworkLoss, NetworkScore
from ._records.steps import (
    AffineStep,
    CorrectorStep,
    Fill,
    LangevinStep,
    Perturb,
    PredictedStep,
    StepOptions,
    TargetEnergy,
    TargetScore,
)
from ._records.types import ACTIVATIONS, REDUCTIONS

_RECORDS: dict[str, type[Any]] = {
    "normal_": Fill,
    "uniform_": Fill,
    "perturb": Perturb,
    "langevin_step": LangevinStep,
    "affine_step": AffineStep,
    "predicted_step": PredictedStep,
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

__all__ = [
    "ACTIVATIONS",
    "KINDS",
    "OPS",
    "REDUCTIONS",
    "SCHEMAS",
    "TARGETS",
    "AffineStep",
    "ChainSteps",
    "CorrectorStep",
    "DenoisingGrad",
    "DenoisingLoss",
    "Density",
    "DualAveraging",
    "Fill",
    "LangevinChain",
    "LangevinStep",
    "Leapfrog",
    "LossTerms",
    "Metropolis",
    "MetropolisChain",
    "NetworkChain",
    "NetworkGrad",
    "NetworkHvp",
    "NetworkLaplacian",
    "NetworkLoss",
    "NetworkScore",
    "Perturb",
    "PredictedStep",
    "PredictorCorrector",
    "Scale",
    "StepOptions",
    "TargetEnergy",
    "TargetScore",
    "UnderdampedChain",
]
