"""The CUDA ops as nvcc compiles them: the host's half runs as in the emulator, but each launch
executes the kernel's PTX (ptx.py).

The PTX comes from the built library, pyebm/_C_cuda.abi3.so, where that is newer than the sources;
else nvcc makes it from the sources, once for each content.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import ptx
import torch
import triton
from emulated import BACKEND, ROOT, build
from ptx_memory import Global
from torch import Tensor
from torch.utils.cpp_extension import include_paths

from pyebm import _ops

_CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
_RECORDER = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_void_p, *[ctypes.c_int64] * 4),
    *[ctypes.POINTER(ctypes.c_size_t)] * 2,
)


def why_not() -> str | None:
    """Why there is no PTX here, or None."""
    if _is_built() or shutil.which("nvcc"):
        return None
    return "neither a CUDA library of these sources nor nvcc is here"


def _is_built() -> bool:
    sources = [path for room in ("common", "cuda") for path in (ROOT / "csrc" / room).iterdir()]
    library = _ops._C_CUDA
    return library.exists() and library.stat().st_mtime > max(path.stat().st_mtime for path in sources)


def _demangled(names: list[str]) -> list[str]:
    """Names without parameters, which the two compilers write differently."""
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return [
        name.removeprefix("void ").replace("(anonymous namespace)::", "").split("(")[0]
        for name in done.stdout.splitlines()
    ]


@functools.cache
def _modules() -> list[str]:
    if _is_built():
        done = subprocess.run([_CUOBJDUMP, "-ptx", _ops._C_CUDA], capture_output=True, text=True, check=True)
        return re.split(r"\n(?=\.version)", done.stdout)[1:]
    flags = [
        "-std=c++17",
        "-O3",
        "--fmad=false",
        "-DUSE_CUDA",
        "-DTORCH_TARGET_VERSION=0x020a000000000000",
        "-arch=compute_80",
    ]
    include = [f"-isystem={path}" for path in include_paths()]
    texts = [
        path.read_text() for room in ("common", "cuda") for path in sorted((ROOT / "csrc" / room).iterdir())
    ]
    content = "\0".join([torch.__version__, *flags, *texts])
    folder = ROOT / "build/ptx" / hashlib.sha256(content.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)

    def made(source: Path) -> str:
        ptx_file = folder / f"{source.stem}.ptx"
        if not ptx_file.exists():
            partial = ptx_file.with_suffix(f".{os.getpid()}")
            subprocess.run(
                ["nvcc", *flags, *include, "-ptx", str(source), "-o", str(partial)],
                capture_output=True,
                check=True,
            )
            partial.rename(ptx_file)
        return ptx_file.read_text()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(made, sorted((ROOT / "csrc/cuda").glob("*.cu"))))


@functools.cache
def _entries() -> dict[str, tuple[str, str]]:
    """{demangled name: (mangled name, its module)}"""
    mangled = [(name, text) for text in _modules() for name in re.findall(r"\.entry\s+([\w$]+)", text)]
    return dict(zip(_demangled([name for name, _ in mangled]), mangled, strict=True))


@functools.cache
def kernel(name: str) -> ptx.Kernel:
    mangled, text = _entries()[name]
    return ptx.parse(text, re.escape(mangled))


@functools.cache
def _functions() -> dict[int, str]:
    """{address within the library: demangled name} of the emulator's kernels."""
    done = subprocess.run(["nm", build()], capture_output=True, text=True, check=True)
    found = re.findall(
        r"^([0-9a-f]+) [tTwWuV] (\w*kernel\w*|\w*make_rows\w*|pyebm_record)$", done.stdout, re.M
    )
    return dict(
        zip((int(address, 16) for address, _ in found), _demangled([name for _, name in found]), strict=True)
    )


def _view(address: int, size: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


@contextlib.contextmanager
def executing() -> Iterator[list[str]]:
    """Within, the backend "cuda-emulated" runs its kernels' PTX; yields the names of the kernels
    that ran."""
    library = ctypes.CDLL(str(build()))
    base = ctypes.cast(library.pyebm_record, ctypes.c_void_p).value - next(
        a for a, n in _functions().items() if n == "pyebm_record"
    )
    ran: list[str] = []
    memory: dict[int, np.ndarray] = {}
    errors: list[Exception] = []

    def record(
        address: int, blocks: int, threads: int, shared: int, count: int, pointers: object, sizes: object
    ) -> None:
        if threads == 0:
            memory[address] = _view(address, blocks)
            return
        try:
            name = _functions()[address - base]
            values = [ctypes.string_at(pointers[k], sizes[k]) for k in range(count)]
            ptx.launch(kernel(name), (blocks,), threads, values, shared, memory=Global(memory))
            ran.append(name)
        except Exception as error:  # no exception may pass through the calling C++
            errors.append(error)

    def remembering(op):
        def run(*args, **kwargs):
            memory.clear()
            for value in [*args, *kwargs.values()]:
                if isinstance(value, Tensor) and value.numel():
                    storage = value.untyped_storage()
                    memory[storage.data_ptr()] = _view(storage.data_ptr(), storage.nbytes())
            op(*args, **kwargs)
            if errors:
                raise errors[0]

        return run

    callback = _RECORDER(record)
    table = _ops._TEST_BACKENDS[BACKEND]
    library.pyebm_record(callback)
    _ops._TEST_BACKENDS[BACKEND] = _ops.Table(BACKEND, {name: remembering(op) for name, op in table.items()})
    try:
        yield ran
    finally:
        library.pyebm_record(_RECORDER())
        _ops._TEST_BACKENDS[BACKEND] = table
