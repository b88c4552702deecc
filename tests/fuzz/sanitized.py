"""The fuzzers on a CPU library that was compiled with sanitizers:
``python tests/fuzz/sanitized.py address calls --cases 500``.

``address``: AddressSanitizer and UndefinedBehaviorSanitizer. ``thread``: ThreadSanitizer. The
latter does not know what OpenMP, with which torch runs its threads, waits for, and would take each
barrier for a race: in its library, threads.cpp starts and joins plain threads in torch's place,
whatever the size, so that every loop of ours is cut and raced. Torch itself is not instrumented:
what is found is found in our code, and what torch does to our memory is seen by the guard pages
alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from outcomes import levels_here
from torch.utils.cpp_extension import include_paths, library_paths

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
KINDS = {"address": "-fsanitize=address,undefined", "thread": "-fsanitize=thread"}
FLAGS = [
    "-std=c++17",
    "-fPIC",
    "-O0",
    "-g1",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-fno-sanitize-recover=all",
]
MACROS = ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DPy_LIMITED_API=0x030a0000"]
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",  # Python and torch keep what they have to their end
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1:die_after_fork=0",
    "OMP_NUM_THREADS": "1",
}


def build(kind: str, level: str | None) -> Path:
    """Returns a folder with a pyebm whose CPU library is compiled with these sanitizers, for one
    SIMD level or for all; an unchanged source is not compiled again."""
    sources = [*sorted((ROOT / "csrc/cpu").rglob("*.cpp")), FOLDER / "planted.cpp"]
    if level:
        others = {f"level_{other}" for other in levels_here()} - {f"level_{level}"}
        sources = [path for path in sources if path.stem not in others]
    sources += [FOLDER / "threads.cpp"] if kind == "thread" else []
    headers = [path for room in ("common", "cpu") for path in sorted((ROOT / "csrc" / room).rglob("*.h"))]
    shared = [torch.__version__, kind, *FLAGS, *(path.read_text() for path in headers)]
    folder = ROOT / "build/sanitized" / kind
    (folder / "pyebm").mkdir(parents=True, exist_ok=True)
    include = [f"-isystem{path}" for path in (*include_paths(), sysconfig.get_path("include"))]

    def compiled(source: Path) -> str:
        content = "\0".join([*shared, source.read_text()])
        made = folder / f"{source.stem}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.o"
        if not made.exists():
            partial = made.with_suffix(".partial")
            subprocess.run(
                ["g++", *FLAGS, KINDS[kind], *MACROS, *include, "-c", str(source), "-o", str(partial)],
                check=True,
            )
            partial.rename(made)
        return str(made)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, sources))
    torch_libraries = [f"-L{path}" for path in library_paths()] + ["-ltorch", "-ltorch_cpu", "-lc10"]
    library = folder / "pyebm/_C.abi3.so"
    command = [
        "g++",
        "-shared",
        "-Wl,-Bsymbolic",
        KINDS[kind],
        *objects,
        *torch_libraries,
        "-o",
        str(library),
    ]
    subprocess.run(command, check=True)
    rooms = {"kernels": ROOT / "kernels", "benchmarks": ROOT / "benchmarks"}
    for name, path in (
        rooms | {path.name: path for path in (ROOT / "pyebm").iterdir() if path.suffix != ".so"}
    ).items():
        link = folder / "pyebm" / name
        if not link.is_symlink():
            link.symlink_to(path)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turn", type=int, help="compile one of this machine's SIMD levels, in turn")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="what fuzz.py takes")
    chosen = parser.parse_args()
    levels = [None] if chosen.turn is None else levels_here()
    level = levels[(chosen.turn or 0) % len(levels)]
    runtime = "libasan.so" if chosen.kind == "address" else "libtsan.so"
    # Preload the C++ library too: the sanitizer looks up its throw function before Python has
    # loaded it.
    libraries = (runtime, "libstdc++.so.6")
    preload = ":".join(
        subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip() for name in libraries
    )
    environment = OPTIONS | os.environ | {"LD_PRELOAD": preload, "PYTHONPATH": str(build(chosen.kind, level))}
    # A randomised address layout has high addresses that ThreadSanitizer does not know.
    python = [*(["setarch", "-R"] if chosen.kind == "thread" else []), sys.executable]
    library = f"{environment['PYTHONPATH']}/pyebm/_C.abi3.so"
    planted = f"import ctypes, torch; ctypes.CDLL({library!r}).planted_{chosen.kind}(4)"
    found = subprocess.run([*python, "-c", planted], env=environment, capture_output=True, text=True)
    if found.returncode == 0 or f"{chosen.kind.capitalize()}Sanitizer" not in found.stderr:
        sys.exit(f"sanitized: the planted fault was not found:\n{found.stdout}{found.stderr}")
    sys.exit(subprocess.run([*python, str(FOLDER / "fuzz.py"), *chosen.rest], env=environment).returncode)


if __name__ == "__main__":
    main()
