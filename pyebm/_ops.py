"""The registered ops: loads the compiled libraries, registers the fakes, and chooses the backend
that runs a call."""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import _kinds, _op_checks
from ._options import shown
from ._schemas import OPS, SCHEMAS
from ._slow import say_slow

_library = torch.library.Library("pyebm", "DEF")
for _name, _schema in SCHEMAS.items():
    _library.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.register_fake(f"pyebm::{_name}", _op_checks.fake(OPS[_name]), lib=_library)


_C = Path(__file__).parent / "_C.abi3.so"
HOW_TO_BUILD = (
    "build it with `pip install -e . --no-build-isolation` in the source tree (needs a C++17 compiler)"
)


def implemented(op: str, device: str) -> bool:
    """Whether a library registered this op, "namespace::name", for the device ("CPU", "CUDA")."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(op, device)


def _lacks(ops: Iterable[str], library: Path, device: str, how: str) -> str | None:
    """Say which of the ops a library that was loaded has not registered, or that its targets are
    others than Python's; or None."""
    missing = [name for name in ops if not implemented(f"pyebm::{name}", device)]
    if missing:
        fault = f"lacks {len(missing)} of its ops, {missing[0]} among them"
    elif targets_of(library) != _kinds.TEXT:
        fault = "has other targets than pyebm/_kinds.py"
    else:
        return None
    return f"{library.name} was loaded and {fault}: it is not of these sources; {how}"


def targets_of(library: Path) -> str | None:
    """The table of targets that a compiled library was built with."""
    text = getattr(ctypes.CDLL(str(library)), "pyebm_targets", None)
    if text is None:
        return None
    text.restype = ctypes.c_char_p
    return str(text().decode())


def _load() -> str | None:
    """Load the compiled CPU library; return why it can't be loaded, or None."""
    if not _C.exists():
        return f"the compiled library {_C.name} is not beside pyebm; {HOW_TO_BUILD}"
    try:
        torch.ops.load_library(_C)
    except OSError as error:
        return f"{_C.name} was found but does not load ({error.__cause__ or error}); {HOW_TO_BUILD}"
    lacks = _lacks(SCHEMAS, _C, "CPU", HOW_TO_BUILD)
    if lacks is None and library().pyebm_simd(None) is None:
        return f"{_C.name} was built with PYEBM_SIMD=native for another machine's SIMD level; {HOW_TO_BUILD}"
    return lacks


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled CPU library, for the functions that it exports beside its ops."""
    found = ctypes.CDLL(str(_C))
    found.pyebm_simd.restype, found.pyebm_simd.argtypes = ctypes.c_char_p, [ctypes.c_char_p]
    return found


_why_no_cpu = _load()
# The reference stands in for a library that is not here, but not for a build that went awry.
_stands_in = _why_no_cpu is not None and str(_C) not in torch.ops.loaded_libraries

_C_CUDA = Path(__file__).parent / "_C_cuda.abi3.so"
# Every other op has a CUDA kernel too.
_ON_THE_CPU_ALONE = (
    *("network_grad", "network_loss", "predicted_step"),
    *("metropolis_chain", "underdamped_chain", "predictor_corrector"),
)
_OPS_OF_CUDA = tuple(name for name in SCHEMAS if name not in _ON_THE_CPU_ALONE)
_HOW_TO_BUILD_CUDA = (
    "build it with `PYEBM_CUDA=1 pip install -e . --no-build-isolation` in the source tree (needs nvcc of"
    " CUDA 12 or later)"
)


def _load_cuda() -> str | None:
    """Load the compiled CUDA library; return why it can't be loaded, or None. A torch without CUDA
    lacks the symbols that it links to."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA; install a CUDA build of torch"
    if not _C_CUDA.exists():
        return f"the compiled library {_C_CUDA.name} is not beside pyebm; {_HOW_TO_BUILD_CUDA}"
    try:
        torch.ops.load_library(_C_CUDA)
    except OSError as error:
        return (
            f"{_C_CUDA.name} was found but does not load with torch {torch.__version__} for CUDA"
            f" {torch.version.cuda} ({error.__cause__ or error}); it may have been built for another torch:"
            f" {_HOW_TO_BUILD_CUDA}"
        )
    return _lacks(_OPS_OF_CUDA, _C_CUDA, "CUDA", _HOW_TO_BUILD_CUDA)


_why_no_cuda = _load_cuda()


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "y", "yes")


def _why_no_triton() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "the triton package is missing; install it with `pip install triton` (tested: 3.6 to 3.9)"
    if not _interpreted() and not torch.cuda.is_available():
        how = "TRITON_INTERPRET=1, set before the start, runs it on CPU tensors, slowly"
        return f"there is no CUDA device here; {how}"
    return None


def backends() -> dict[str, bool | str]:
    """Which backends run here: ``{name: True, or a sentence that says why not and how to get it}``.

    Example:
        >>> import pyebm
        >>> pyebm.backends()["reference"]
        True
    """
    why_no_cuda = _why_no_cuda
    if why_no_cuda is None and not torch.cuda.is_available():
        asked = "torch.cuda.is_available() is False"
        why_no_cuda = f"torch finds no CUDA device ({asked}); check the driver with nvidia-smi"
    return {
        "reference": True,
        "cpu": True if _why_no_cpu is None else f"{_why_no_cpu} (machine: {platform.machine()})",
        "cuda": why_no_cuda or True,
        "triton": _why_no_triton() or True,
        **dict.fromkeys(_TEST_BACKENDS, True),
    }


def _checked(ops: dict[str, Callable[..., None]]) -> dict[str, Callable[..., None]]:
    return {name: _op_checks.checked(OPS[name], op) for name, op in ops.items()}


class Table(dict[str, Callable[..., None]]):
    """A backend's ops by name. A look-up of an op that it lacks raises an error that says so."""

    def __init__(self, backend: str, kernels: dict[str, Callable[..., None]]) -> None:
        super().__init__(kernels)
        self.backend = backend

    def __missing__(self, op: str) -> Callable[..., None]:
        raise RuntimeError(
            f"backend {self.backend!r} does not have the op {op} yet; backend='reference' runs it on any"
            " device"
        )


# The ops as torch dispatches them: CPU tensors to the compiled CPU library, CUDA tensors to the
# compiled CUDA library, or to Triton where that library is missing. The CPU has a kernel for each.
_REGISTERED: dict[str, Callable[..., None]] = {
    name: getattr(torch.ops.pyebm, name).default for name in SCHEMAS
}
_ON_CUDA = Table("cuda", {name: _REGISTERED[name] for name in _OPS_OF_CUDA})
# The tests add kernels that are emulated on CPU tensors.
_TEST_BACKENDS: dict[str, dict[str, Callable[..., None]]] = {}


@functools.cache
def _triton() -> dict[str, Callable[..., None]]:
    """The Triton kernels. They are imported on first use, so importing pyebm imports no triton."""
    if importlib.util.find_spec("triton") is None:
        raise RuntimeError(f"backend 'triton' can't run: {_why_no_triton()}")
    return Table("triton", _checked(importlib.import_module("pyebm.kernels").OPS))


@functools.cache
def _reference() -> dict[str, Callable[..., None]]:
    return Table("reference", _checked(importlib.import_module("pyebm.reference").OPS))


def _in_its_place() -> dict[str, Callable[..., None]]:
    if not torch.compiler.is_compiling():
        say_slow(str(_why_no_cpu))
    return _reference()


def _looked_up(table: Callable[[], dict[str, Callable[..., None]]], name: str) -> Callable[..., None]:
    def run(*args: Any, **kwargs: Any) -> None:
        table()[name](*args, **kwargs)

    return run


_implementations = torch.library.Library("pyebm", "IMPL")
for _name in SCHEMAS:
    if _stands_in:
        _implementations.impl(_name, _looked_up(_in_its_place, _name), "CPU")
    # An op has one implementation per device; that of the compiled library comes first.
    if not implemented(f"pyebm::{_name}", "CUDA"):
        _implementations.impl(_name, _looked_up(_triton, _name), "CUDA")


def kernels(backend: str | None, x: Tensor) -> dict[str, Callable[..., None]]:
    """The table ``{op name: callable}`` of ``backend`` on x's device; raises an error that says
    what is missing.

    ``None`` lets the device decide. If a backend that is there fails, no other one takes its place.
    """
    if backend is not None and not isinstance(backend, str):
        raise TypeError(f"backend must be None or a name from pyebm.backends(), got {type(backend).__name__}")
    if backend is None or backend == "cpu":
        if x.is_cpu and _why_no_cpu is None:
            return _REGISTERED
        if backend is None and x.is_cuda:
            return _ON_CUDA
        if backend is None and x.is_cpu and _stands_in:
            return _in_its_place()
    elif backend == "cuda":
        if x.is_cuda and _why_no_cuda is None:
            return _ON_CUDA
    elif backend == "triton":
        if x.is_cuda:
            return _ON_CUDA if _why_no_cuda is not None else _triton()
        if x.is_cpu and _interpreted():
            return _triton()
    elif backend in _TEST_BACKENDS:
        if x.is_cpu:
            return _TEST_BACKENDS[backend]
    elif backend == "reference" and not x.is_meta:
        return _reference()
    if x.is_meta and (backend is None or backend in backends()):
        return _REGISTERED  # on meta tensors the fakes run, which compute nothing
    raise _unavailable(backend, x.device)


def has(op: str, x: Tensor) -> bool:
    """Whether a call that names no backend has this op on x's device."""
    return x.is_cpu or x.is_meta or (x.is_cuda and op in _OPS_OF_CUDA)


def on_host(backend: str | None, x: Tensor) -> bool:
    """Whether the CPU's kernels or the reference run. Those two have ops and options that no other
    backend has."""
    return x.is_cpu and (backend is None or (isinstance(backend, str) and backend in ("cpu", "reference")))


def _unavailable(backend: str | None, device: torch.device) -> Exception:
    known = backends()
    if backend is not None and backend not in known:
        return ValueError(
            f"backend must be None or one of {', '.join(map(repr, known))}, got {shown(backend)}"
        )
    if backend is None:
        backend = "cpu" if device.type == "cpu" else "cuda"
    if known[backend] is not True:
        return RuntimeError(f"backend {backend!r} can't run: {known[backend]}")
    takes = "CUDA tensors" if backend in ("cuda", "triton") else "tensors on the CPU"
    return ValueError(f"backend {backend!r} takes {takes}, got one on {device}")


def call(op: Callable[..., None], head: tuple[Any, ...], tail: Sequence[Any]) -> None:
    """Run ``op(*head, *tail)``; the tail is left out if all of it is None, the default."""
    for value in tail:
        if value is not None:
            op(*head, *tail)
            return
    op(*head)


def simd(level: str | None = None) -> str:
    """The SIMD level the CPU kernels run at; ``level`` ('baseline', 'avx2', 'avx512', or 'neon' on
    arm64) forces one, for tests and benchmarks.

    Raises ValueError when this machine or this build does not have that level, RuntimeError when
    the library is missing.
    """
    if _why_no_cpu is not None:
        raise RuntimeError(_why_no_cpu)
    found = library().pyebm_simd(None if level is None else level.encode())
    if found is None:
        raise ValueError(f"simd level must be one that this machine and this build have, got {level!r}")
    return str(found.decode())
