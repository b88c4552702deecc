"""The registered ops: one table of schemas, their fakes, the loading of the compiled libraries, and who runs what.

Every op writes into tensors that the caller allocated, so that memory format and dtype are decided in one place (the
functional layer) and a kernel is only arithmetic. Conventions shared by all of them:

- a coefficient is a number ``c`` or, where given, ``c_rows``: one float32/float64 value per sample (one element serves all);
- noise is named by ``Tensor name`` = int64 (seed, first_sample, step, stream), with ``Tensor? seeds`` and ``Tensor? ids``
  (int64, one per sample) in place of the first two where given. It is data, never a launch argument, so that nothing is
  compiled again, or replayed, when the seed or the step changes;
- what most calls don't need comes last and defaults to None: an argument costs 0.15 us (:func:`call`).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
    # The score of TARGETS[target]; params: all of its numbers, flat, in the dtype that x is computed in.
    "target_score": "(Tensor(a!) out, Tensor x, int target, Tensor params) -> ()",
    # n_steps Langevin steps in place, the first with the noise that name names. With thin, states (n_steps // thin, ...) gets the
    # state after every thin-th step. per_step: the rows hold one value per step, not per sample. diverged: int64 (samples).
    "langevin_chain": "(Tensor(a!) x, int target, Tensor params, int n_steps, float step_size, float temperature, Tensor name, "
    "Tensor? step_size_rows=None, Tensor? temperature_rows=None, bool? step_size_per_step=None, bool? temperature_per_step=None, "
    f"Tensor(b!)? states=None, int? thin=None, Tensor(c!)? diverged=None, float? low=None, float? high=None, {_ROWS}) -> ()",
    # x, score and energy become those of the proposal where log u < log_alpha = (energy - proposal_energy) / temperature +
    # (before - after) / scale, u the sample's uniform; accepted counts them. A kernel on the CPU, whose tensors are contiguous;
    # elsewhere the reference does it, around the backend's uniform_.
    "metropolis": "(Tensor(a!) x, Tensor(b!) score, Tensor(c!) energy, Tensor(d!) accepted, Tensor(e!) accept, "
    "Tensor(f!) log_alpha, Tensor proposal, Tensor proposal_score, Tensor proposal_energy, Tensor before, Tensor after, "
    f"float scale, float temperature, Tensor name, Tensor? scale_rows=None, {_ROWS}) -> ()",
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

REDUCTIONS = {"none": 0, "sample": 1, "sum": 2, "mean": 3, "batchmean": 4}


def _fake(*_: Any, **__: Any) -> None:
    """Every result is an argument, so there is no shape to work out."""


_library = torch.library.Library("pyebm", "DEF")
for _name, _schema in SCHEMAS.items():
    _library.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.register_fake(f"pyebm::{_name}", _fake, lib=_library)


_C = Path(__file__).parent / "_C.abi3.so"
_HOW_TO_BUILD = "build it with `pip install -e . --no-build-isolation` in the source tree (needs a C++17 compiler)"


def _load() -> str | None:
    """Load the compiled CPU library; return why it can't be, or None."""
    if not _C.exists():
        return f"the compiled library {_C.name} is not beside pyebm; {_HOW_TO_BUILD}"
    try:
        torch.ops.load_library(_C)
    except OSError as error:
        return f"{_C.name} was found but does not load ({error}); {_HOW_TO_BUILD}"
    return None


_why_no_cpu = _load()

_C_CUDA = Path(__file__).parent / "_C_cuda.abi3.so"
_HOW_TO_BUILD_CUDA = (
    "build it with `PYEBM_CUDA=1 pip install -e . --no-build-isolation` in the source tree (needs nvcc of CUDA 12 or later)"
)


def _load_cuda() -> str | None:
    """Load the compiled CUDA library; return why it can't be, or None. Its symbols are in no torch without CUDA."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA; install a CUDA build of torch"
    if not _C_CUDA.exists():
        return f"the compiled library {_C_CUDA.name} is not beside pyebm; {_HOW_TO_BUILD_CUDA}"
    try:
        torch.ops.load_library(_C_CUDA)
    except OSError as error:
        return (
            f"{_C_CUDA.name} was found but does not load with torch {torch.__version__} for CUDA {torch.version.cuda} ({error}); "
            f"it may have been built for another torch: {_HOW_TO_BUILD_CUDA}"
        )
    return None


_why_no_cuda = _load_cuda()


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "y", "yes")


def _why_no_triton() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "the triton package is missing; install it with `pip install triton` (tested: 3.6 to 3.9)"
    if not _interpreted() and not torch.cuda.is_available():
        return "there is no CUDA device here; TRITON_INTERPRET=1, set before the start, runs it on CPU tensors, slowly"
    return None


def backends() -> dict[str, bool | str]:
    """Which backends run here: ``{name: True, or a sentence that says why not and how to get it}``.

    Example:
        >>> import pyebm
        >>> pyebm.backends()["reference"]
        True
    """
    machine = platform.machine()
    why_no_cuda = _why_no_cuda
    if why_no_cuda is None and not torch.cuda.is_available():
        why_no_cuda = "torch finds no CUDA device (torch.cuda.is_available() is False); check the driver with nvidia-smi"
    return {
        "reference": True,
        "cpu": True if _why_no_cpu is None else f"{_why_no_cpu} (machine: {machine})",
        "cuda": why_no_cuda or True,
        "triton": _why_no_triton() or True,
        **dict.fromkeys(_TEST_BACKENDS, True),
    }


class Table(dict[str, Callable[..., None]]):
    """A backend's ops by name; asking for one that it lacks says so."""

    def __init__(self, backend: str, ops: dict[str, Callable[..., None]]) -> None:
        super().__init__(ops)
        self.backend = backend

    def __missing__(self, op: str) -> Callable[..., None]:
        raise RuntimeError(f"backend {self.backend!r} does not have the op {op} yet; backend='reference' runs it on any device")


def implemented(op: str, device: str) -> bool:
    """Whether a library registered this op, "namespace::name", for the device ("CPU", "CUDA")."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(op, device)


# The ops as torch dispatches them: CPU tensors to the compiled library, CUDA tensors to the compiled one or else to Triton.
_REGISTERED: dict[str, Callable[..., None]] = {name: getattr(torch.ops.pyebm, name).default for name in SCHEMAS}
_TEST_BACKENDS: dict[str, dict[str, Callable[..., None]]] = {}  # what the tests add: kernels emulated on CPU tensors


@functools.cache
def _triton() -> dict[str, Callable[..., None]]:
    """The Triton kernels, on first use: importing pyebm imports no triton."""
    if importlib.util.find_spec("triton") is None:
        raise RuntimeError(f"backend 'triton' can't run: {_why_no_triton()}")
    return Table("triton", importlib.import_module("pyebm.kernels").OPS)


def _on_cuda(name: str) -> Callable[..., None]:
    def run(*args: Any, **kwargs: Any) -> None:
        _triton()[name](*args, **kwargs)

    return run


_implementations = torch.library.Library("pyebm", "IMPL")
for _name in SCHEMAS:
    if not implemented(f"pyebm::{_name}", "CUDA"):  # one implementation a device: the compiled library comes first
        _implementations.impl(_name, _on_cuda(_name), "CUDA")


def kernels(backend: str | None, x: Tensor) -> dict[str, Callable[..., None]]:
    """The table ``{op name: callable}`` that runs for ``backend`` on x's device, or an error that says what is missing.

    ``None`` lets the device decide. A backend that is there but fails is never replaced by another one.
    """
    if backend is None or backend == "cpu":
        if x.is_cpu and _why_no_cpu is None:
            return _REGISTERED
        if backend is None and x.is_cuda:
            return _REGISTERED
    elif backend == "cuda":
        if x.is_cuda and _why_no_cuda is None:
            return _REGISTERED
    elif backend == "triton":
        if x.is_cuda:
            return _REGISTERED if _why_no_cuda is not None else _triton()
        if x.is_cpu and _interpreted():
            return _triton()
    elif backend in _TEST_BACKENDS:
        if x.is_cpu:
            return _TEST_BACKENDS[backend]
    elif backend == "reference":
        from . import reference

        return reference.OPS
    raise _unavailable(backend, x.device)


def _unavailable(backend: str | None, device: torch.device) -> Exception:
    known = backends()
    if backend is not None and backend not in known:
        return ValueError(f"backend must be None or one of {', '.join(map(repr, known))}, got {backend!r}")
    if backend is None:
        backend = "cpu" if device.type == "cpu" else "cuda"
    if known[backend] is not True:
        return RuntimeError(f"backend {backend!r} can't run: {known[backend]}")
    takes = "CUDA tensors" if backend in ("cuda", "triton") else "tensors on the CPU"
    return ValueError(f"backend {backend!r} takes {takes}, got one on {device}")


def call(op: Callable[..., None], head: tuple[Any, ...], tail: Sequence[Any]) -> None:
    """Run ``op(*head, *tail)``, without the tail where all of it is the default, None."""
    for value in tail:
        if value is not None:
            op(*head, *tail)
            return
    op(*head)


def simd(level: str | None = None) -> str:
    """The SIMD level the CPU kernels run at; ``level`` ('baseline', 'avx2', 'avx512') forces one, for tests and benchmarks.

    Raises ValueError when this machine or this build does not have that level, RuntimeError when the library is missing.
    """
    if _why_no_cpu is not None:
        raise RuntimeError(_why_no_cpu)
    import ctypes

    library: Any = ctypes.CDLL(str(_C))
    library.pyebm_simd.restype = ctypes.c_char_p
    library.pyebm_simd.argtypes = [ctypes.c_char_p]
    found = library.pyebm_simd(None if level is None else level.encode())
    if found is None:
        raise ValueError(f"simd level must be one that this machine has, got {level!r}")
    return str(found.decode())
