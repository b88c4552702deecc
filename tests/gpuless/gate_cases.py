"""The calls whose kernels the compile gate (gate.py) measures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from target_cases import make
from torch import Tensor

import pyebm

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SAMPLES = 64


def _channels_last(dtype: torch.dtype) -> Tensor:
    return torch.empty(SAMPLES, 3, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)


def samples_of(size: int) -> Callable[[torch.dtype], Tensor]:
    return lambda dtype: torch.empty(SAMPLES, size, dtype=dtype)


# In order: whole tiles; the last tile cut; two elements an access; one element an access; strides
# unlike a contiguous tensor's.
LAYOUTS: dict[str, tuple[Callable[[torch.dtype], Tensor], tuple[torch.dtype, ...]]] = {
    "3072": (samples_of(3072), DTYPES),
    "3000": (samples_of(3000), (torch.float32,)),
    "3070": (samples_of(3070), (torch.float32,)),
    "17": (samples_of(17), (torch.float32, torch.bfloat16)),
    "3x32x32, channels last": (_channels_last, (torch.float32,)),
}
EVEN = "3072"
# For each case: how many elements a kernel must move for each element of the samples. This is the
# floor of the traffic where tensors are aligned.
FLOOR = {
    "normal": 1,
    "perturb": 2,
    "perturb per sample": 2,
    "step": 3,
    "affine per sample": 3,
    "loss+grad": 2,
    "loss+grad per sample": 2,
    "grad": 2,
    "scale": 2,
    "leapfrog": 5,
}

Op = Callable[[dict[str, Callable[..., None]], Tensor], None]


def noise_name() -> Tensor:
    return pyebm.Noise(3)._name


def _rows() -> Tensor:
    return torch.ones(SAMPLES)


def _tokens(x: Tensor) -> Tensor:
    """A value for each eight elements, where they divide a sample; else for each element."""
    return torch.ones(x.numel() // (8 if x[0].numel() % 8 == 0 else 1))


def _elements(x: Tensor) -> Tensor:
    return torch.ones(x.numel())


def _loss_arguments(reduction: str) -> tuple[object, ...]:
    return (0.5, 1.0, 0.0, 1.0, 0.5, True, pyebm._schemas.REDUCTIONS[reduction], noise_name())


def _wide(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)


CASES: dict[str, Op] = {
    "normal": lambda ops, x: ops["normal_"](x, noise_name()),
    "perturb": lambda ops, x: ops["perturb"](torch.empty_like(x), x, 0.9, 0.5, noise_name()),
    "perturb per sample": lambda ops, x: ops["perturb"](
        torch.empty_like(x), x, 0.9, 0.5, noise_name(), sigma_rows=_rows()
    ),
    "step": lambda ops, x: ops["langevin_step"](torch.empty_like(x), x, x, 0.1, 1.0, noise_name()),
    "step, every option": lambda ops, x: ops["langevin_step"](
        torch.empty_like(x),
        x,
        x,
        0.1,
        1.0,
        noise_name(),
        _rows(),
        None,
        torch.empty_like(x),
        x > 0,
        -1.0,
        1.0,
        2.0,
    ),
    "affine per sample": lambda ops, x: ops["affine_step"](
        torch.empty_like(x), x, x, 0.9, 0.1, 0.2, noise_name(), _rows()
    ),
    "loss+grad": lambda ops, x: ops["denoising_loss"](
        _wide(x), torch.empty_like(x), x, *_loss_arguments("batchmean")
    ),
    "loss+grad per sample": lambda ops, x: ops["denoising_loss"](
        _wide(x, SAMPLES), torch.empty_like(x), x, *_loss_arguments("sample"), kappa_rows=_rows()
    ),
    "elementwise loss": lambda ops, x: ops["denoising_loss"](
        _wide(x, *x.shape), None, x, *_loss_arguments("none")
    ),
    "perturb per token": lambda ops, x: ops["perturb"](
        torch.empty_like(x), x, 0.9, 0.5, noise_name(), sigma_rows=_tokens(x)
    ),
    "step, every option, per element": lambda ops, x: ops["langevin_step"](
        torch.empty_like(x),
        x,
        x,
        0.1,
        1.0,
        noise_name(),
        _elements(x),
        None,
        torch.empty_like(x),
        x > 0,
        -1.0,
        1.0,
        2.0,
    ),
    "affine per element": lambda ops, x: ops["affine_step"](
        torch.empty_like(x), x, x, 0.9, 0.1, 0.2, noise_name(), _elements(x)
    ),
    "loss+grad per token": lambda ops, x: ops["denoising_loss"](
        _wide(x, SAMPLES), torch.empty_like(x), x, *_loss_arguments("sample"), kappa_rows=_tokens(x)
    ),
    "loss+grad, weight per element": lambda ops, x: ops["denoising_loss"](
        _wide(x), torch.empty_like(x), x, *_loss_arguments("batchmean"), weight_rows=_elements(x)
    ),
    "grad": lambda ops, x: ops["denoising_grad"](
        torch.empty_like(x), _wide(x), x, *_loss_arguments("batchmean")
    ),
    "scale": lambda ops, x: ops["scale_"](x, _wide(x)),
    "leapfrog": lambda ops, x: ops["leapfrog"](
        x, torch.empty_like(x), 0.1, x, torch.empty_like(x), torch.empty_like(x)
    ),
}


def _doubles() -> Tensor:
    return torch.zeros(SAMPLES, dtype=torch.float64)


def _metropolis(ops: dict[str, Callable[..., None]], x: Tensor, *momenta: Tensor) -> None:
    counts, accept = torch.zeros(SAMPLES, dtype=torch.int64), torch.zeros(SAMPLES, dtype=torch.bool)
    held = (x, torch.empty_like(x), _doubles(), counts, accept, _doubles())
    proposed = (torch.empty_like(x), torch.empty_like(x), _doubles())
    ops["metropolis"](*held, *proposed, 0.1, 0.4, 1.0, noise_name(), *momenta)


def _dual_averaging(ops: dict[str, Callable[..., None]], together: bool) -> None:
    held = (_doubles(), _doubles(), _doubles(), torch.zeros((), dtype=torch.float64))
    ops["dual_averaging"](*held, _doubles(), _doubles(), 5, 0.6, together)


def _energy(ops: dict[str, Callable[..., None]], x: Tensor, kind: str) -> None:
    params = make(kind, x.shape[1])._checked("gate", x)
    index = pyebm._schemas.TARGETS.index(kind)
    ops["target_energy"](_doubles(), torch.empty_like(x), x, index, params, 0.0)


# The samplers' ops, of float32 alone.
SAMPLERS: dict[str, Op] = {
    "metropolis, MALA": _metropolis,
    "metropolis, HMC": lambda ops, x: _metropolis(ops, x, torch.empty_like(x), torch.empty_like(x)),
    "dual averaging": lambda ops, _: _dual_averaging(ops, True),
    "corrector": lambda ops, x: ops["corrector_step"](x, torch.empty_like(x), 0.3, noise_name(), True),
    "energy, double_well": lambda ops, x: _energy(ops, x, "double_well"),
    "energy, rosenbrock": lambda ops, x: _energy(ops, x, "rosenbrock"),
    "energy, ackley": lambda ops, x: _energy(ops, x, "ackley"),
}
# (case, op, elements of a sample). Ackley's energy of a long sample takes its root after the loop
# over the tiles, and the instructions of such a path can't be counted: that case is left out.
SAMPLER_CASES = [
    (case, op, size)
    for size in (3072, 17)
    for case, op in SAMPLERS.items()
    if (case, size) != ("energy, ackley", 3072)
]
