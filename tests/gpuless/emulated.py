"""The CUDA sources compiled by g++ on the emulator (cuda_on_cpu.h), as the backend "cuda-emulated"
for CPU tensors."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths, library_paths

from pyebm import _kinds, _op_checks, _ops, _schemas

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = sorted((ROOT / "csrc/cuda").glob("*.cu"))
HEADERS = [
    path
    for folder in ("csrc/cuda", "csrc/common", "tests/gpuless")
    for path in sorted((ROOT / folder).glob("*.h"))
]
FLAGS = [
    "-std=c++17",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    "-Werror",
]
BACKEND = "cuda-emulated"
_NAMESPACE = "pyebm_cuda_emulated"


def build(*flags: str, sources: list[Path] = SOURCES) -> Path:
    """Compile the CUDA sources for the CPU with these further flags, once for each content, and
    return the library."""
    options = [*FLAGS, *(flags or ("-O1", "-g1")), "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    folder = ROOT / "build" / "emulated"
    text = "\0".join([*options, *(path.read_text() for path in [*sources, *HEADERS])])
    library = folder / _named_by(text) / "pyebm_cuda_emulated.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:  # pytest's other workers wait, and find it made
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            _link(
                library, [flag for flag in flags if flag.startswith("-fsanitize")], _objects(options, sources)
            )
    return library


def _objects(options: list[str], sources: list[Path]) -> list[str]:
    """The sources' objects: compiled now, or before from the same contents."""
    include = [f"-isystem{path}" for path in include_paths()] + [f"-I{HERE}"]

    def compile_one(source: Path) -> str:
        made = ROOT / f"build/emulated/{source.stem}-{_named_by(*options, *_with_headers(source))}.o"
        if not made.exists():
            partial = made.with_suffix(".partial")
            run("g++", *options, *include, "-x", "c++", "-c", str(source), "-o", str(partial))
            partial.rename(made)
        return str(made)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(compile_one, sources))


def _link(library: Path, sanitizers: list[str], objects: list[str]) -> None:
    linked = library.with_name("linking.so")
    torch_libraries = [f"-L{path}" for path in library_paths()] + ["-ltorch", "-ltorch_cpu", "-lc10"]
    run("g++", "-shared", *sanitizers, *objects, *torch_libraries, "-o", str(linked))
    linked.rename(library)


def _named_by(*texts: str) -> str:
    return hashlib.sha256("\0".join([torch.__version__, *texts]).encode()).hexdigest()[:16]


def _with_headers(source: Path) -> list[str]:
    """The text of a source, and of all headers of ours that it includes."""
    found: dict[Path, str] = {}
    left = [source]
    while left:
        path = left.pop()
        if path not in found:
            found[path] = path.read_text()
            for name in re.findall(r'#include "([^"]+)"', found[path]):
                places = ((room / name).resolve() for room in (path.parent, HERE))
                left += [place for place in places if place.exists()]
    return [found[path] for path in sorted(found)]


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _wanted() -> Path:
    """The library, built from the sources and with the flags that the environment names."""
    names = os.environ.get("PYEBM_EMULATED_SOURCES", "").split()
    sources = [path for path in SOURCES if not names or path.stem in names]
    return build(*os.environ.get("PYEBM_EMULATED_FLAGS", "").split(), sources=sources)


_library = None


def register(library: Path | None = None) -> str:
    """Make the backend known to pyebm and return its name. ``library`` may be one that was built
    with other flags."""
    global _library
    if _library is None:
        _library = torch.library.Library(_NAMESPACE, "DEF")
        for name, schema in _schemas.SCHEMAS.items():
            _library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
            torch.library.register_fake(
                f"{_NAMESPACE}::{name}", _op_checks.fake(_schemas.OPS[name]), lib=_library
            )
        built = library or _wanted()
        torch.ops.load_library(built)
        assert _ops.targets_of(built) in (None, _kinds.TEXT), "csrc has other targets than pyebm/_kinds.py"
        namespace = getattr(torch.ops, _NAMESPACE)
        ops = [name for name in _schemas.SCHEMAS if _ops.implemented(f"{_NAMESPACE}::{name}", "CPU")]
        _ops._TEST_BACKENDS[BACKEND] = _ops.Table(
            BACKEND, {name: getattr(namespace, name).default for name in ops}
        )
    return BACKEND


if __name__ == "__main__":
    print(_wanted())
