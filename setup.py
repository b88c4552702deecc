"""Builds the kernels on LibTorch's stable ABI: one abi3 wheel for torch >= 2.10 and Python >= 3.10.

The CUDA half is a library of its own. It is built if torch has CUDA, and so could load it, and nvcc
is found. PYEBM_CUDA=1 asks for it anywhere and makes a failure to build it an error: the build
needs neither a GPU nor a torch with CUDA, so that one wheel serves CPU and CUDA users. PYEBM_CUDA=0
forbids it. Without a C++ compiler, or with PYEBM_CPU=0, nothing is compiled, and pyebm runs on its
reference; PYEBM_CPU=1 makes that an error. TORCH_CUDA_ARCH_LIST ("8.0;9.0+PTX") names the GPUs to
build for. PYEBM_SIMD=native builds the CPU kernels for this machine's SIMD level alone.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import machine
from typing import Any

# The least versions, as in pyproject.toml, which --no-build-isolation does not check.
NEEDED = {"torch": (2, 10), "setuptools": (77, 0)}


def what_is_missing() -> str | None:
    """Says what to install before pyebm can be built; None if nothing is missing."""
    old = []
    for name, least in NEEDED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if found == "none" or tuple(map(int, re.findall(r"\d+", found + ".0")[:2])) < least:
            old.append(f"{name} >= {least[0]}.{least[1]} (here: {found})")
    if not old:
        return None
    return (
        f"pyebm is built against the torch it will run with, and needs {' and '.join(old)}: first\n"
        '    pip install "setuptools>=77" "torch>=2.10"\n'
        "and then build with --no-build-isolation"
    )


if missing := what_is_missing():
    sys.exit(missing)

import torch
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from torch.utils.cpp_extension import include_paths, library_paths

# Only the project's own checks set PYEBM_WERROR: a user's compiler may know other warnings.
STRICT = os.environ.get("PYEBM_WERROR") == "1"

compile_args = [
    *("-std=c++17", "-O3", "-g0", "-fvisibility=hidden"),
    # Bits are promised: no fused multiply-add, and no reordering either (never add -ffast-math).
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    *("-Wall", "-Wextra", *(["-Werror"] if STRICT else [])),
    *(f"-isystem{path}" for path in include_paths()),
]

# Instead of -O3 for gcc, whose kernels are then as quick, and made in two thirds of the time.
GCC_ARGS = ["-O2", "-fvect-cost-model=dynamic", "-fpeel-loops", "-funswitch-loops"]

ARCHITECTURES = "8.0;8.6;8.9;9.0;10.0;12.0+PTX"
OLDEST_NVCC = (12, 0)
STABLE_ABI = ("TORCH_TARGET_VERSION", "0x020a000000000000")


def find_nvcc() -> list[str] | str:
    """The command that runs nvcc, or a sentence that says what was found instead."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    folders = [*(f"{home}/bin" for home in homes), os.environ.get("PATH", os.defpath)]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(folders))
    if nvcc is None:
        where = f"in {', '.join(homes)} or " if homes else ""
        return f"nvcc was not found {where}on the PATH; install the CUDA toolkit, or set CUDA_HOME to it"
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"release (\d+)\.(\d+)", said)
    if version is None:
        return f"{nvcc} --version gave no release number: {said!r}"
    if tuple(map(int, version.groups())) < OLDEST_NVCC:
        least = ".".join(map(str, OLDEST_NVCC))
        return f"nvcc is of CUDA {version[1]}.{version[2]}; pyebm needs CUDA {least} or later"
    return [nvcc]


def architecture_flags(nvcc: str) -> list[str]:
    """Returns nvcc's -gencode for every architecture asked for, or else for each of the default
    list that this nvcc knows.

    All machine code is made from the PTX of the oldest architecture: no kernel uses a later one's
    features, and so the front end, which takes as long as ptxas, runs once. +PTX adds that PTX,
    which drivers translate for the GPUs that are not named.
    """
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"compute_(\d+)", listed))
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip()
    numbers = []
    for name in re.split(r"[;, ]+", asked or ARCHITECTURES):
        parts = re.fullmatch(r"(\d+)\.(\d)(\+PTX)?", name)
        number = parts[1] + parts[2] if parts else ""
        if number not in known:
            if not asked:
                continue
            versions = ", ".join(f"{int(n) // 10}.{int(n) % 10}" for n in sorted(known, key=int))
            known_to = f"{nvcc} does not know; it knows {versions}, each with +PTX or without"
            sys.exit(f"TORCH_CUDA_ARCH_LIST names {name!r}, which {known_to}")
        numbers.append(number)
    oldest = min(numbers, key=int)
    codes = [f"sm_{number}" for number in numbers]
    if "+PTX" in (asked or ARCHITECTURES):
        codes.append(f"compute_{oldest}")
    return [f"-gencode=arch=compute_{oldest},code=[{','.join(codes)}]"]


def sources(room: str, kind: str) -> list[str]:
    """Lists the sources in a room of csrc, and refuses a tree without them: it would build,
    without a word, a library without ops."""
    found = sorted(str(path) for path in Path("csrc", room).rglob(kind))
    if not found:
        where = f"csrc/{room}/{kind} in {Path.cwd()}"
        sys.exit(f"pyebm: there are no sources {where}: build in the whole source tree, or its sdist")
    return found


def wish(name: str, *known: str) -> str:
    wanted = os.environ.get(name, "")
    if wanted not in ("", *known):
        sys.exit(f"{name} must be {', '.join(known)} or unset, got {wanted!r}")
    return wanted


def cuda_extensions() -> list[Extension]:
    wanted = wish("PYEBM_CUDA", "0", "1")
    if wanted == "0":
        return []
    if wanted == "" and torch.version.cuda is None:
        why = f"torch {torch.__version__} has no CUDA and could not load them"
        anyway = "PYEBM_CUDA=1 builds them all the same"
        print(f"pyebm: building without the CUDA kernels: {why}; {anyway}", file=sys.stderr)
        return []
    found = find_nvcc()
    if isinstance(found, str):
        if wanted == "1":
            sys.exit(f"PYEBM_CUDA=1 asks for the CUDA kernels, but {found}")
        print(f"pyebm: building without the CUDA kernels: {found}", file=sys.stderr)
        return []
    dry = subprocess.run(
        [*found, "--dryrun", "-c", "-x", "cu", os.devnull], capture_output=True, text=True, check=True
    )
    extension = Extension(
        "pyebm._C_cuda",
        sources=sources("cuda", "*.cu"),
        depends=sorted(str(path) for room in ("common", "cuda") for path in Path("csrc", room).glob("*.h")),
        define_macros=[STABLE_ABI],
        library_dirs=[*library_paths(), *re.findall(r'"-L([^"]+)"', dry.stderr + dry.stdout)],
        libraries=["torch_cpu", "c10", "cudart_static", "dl", "rt", "pthread"],
        extra_link_args=["-Wl,--no-as-needed,-ltorch,--exclude-libs,ALL"],  # it brings libtorch_cuda.so
        py_limited_api=True,
    )
    extension.nvcc = [*found, *architecture_flags(*found)]
    return [extension]


def with_headers(source: Path) -> dict[Path, str]:
    """The text of a source and of all headers of ours that it includes."""
    found: dict[Path, str] = {}
    left = [source.resolve()]
    while left:
        path = left.pop()
        if path not in found and path.exists():  # a missing header is the tests' emulator
            found[path] = path.read_text()
            left += [
                (path.parent / name).resolve() for name in re.findall(r'#include "([^"]+)"', found[path])
            ]
    return dict(sorted(found.items()))


def reused(source: str, options: Sequence[str], compile_to: Callable[[Path], object]) -> str:
    """The object of a source: compiled, or what was compiled before from the same contents with the
    same options and torch."""
    folder = Path("build/objects")
    folder.mkdir(parents=True, exist_ok=True)
    content = "\0".join([torch.__version__, *options, *with_headers(Path(source)).values()]).encode()
    made = folder / f"{Path(source).stem}-{hashlib.sha256(content).hexdigest()[:16]}.o"
    if not made.exists():
        partial = made.with_suffix(f".{os.getpid()}")
        compile_to(partial)
        partial.rename(made)
    return str(made)


def compile_cuda(extension: Extension) -> list[str]:
    """Compiles the CUDA sources to objects, side by side."""
    built_for = " ".join(re.findall(r"(?:sm|compute)_\w+(?=[,\]])", extension.nvcc[-1].partition("code=")[2]))
    command = [
        *extension.nvcc,
        "-std=c++17",
        "-O3",
        # Bits are promised: every product, sum, quotient and root is rounded by itself (never add
        # --use_fast_math).
        *("--fmad=false", "--prec-sqrt=true", "--prec-div=true", "--ftz=false"),
        f"-Xcompiler=-fPIC,-fvisibility=hidden,-Wall{',-Werror' if STRICT else ''}",
        *(["-Werror=all-warnings", "-Xptxas=-warn-spills,-warn-lmem-usage"] if STRICT else []),
        "-DUSE_CUDA",
        "-D" + "=".join(STABLE_ABI),
        f'-DPYEBM_CUDA_ARCHS="{built_for}"',
        *(f"-isystem={path}" for path in include_paths()),
        f"--threads={os.cpu_count()}",
    ]
    options = [word for word in command if not word.startswith("-isystem")]

    def compile_one(source: str) -> str:
        return reused(
            source,
            options,
            lambda to: subprocess.run([*command, "-c", source, "-o", str(to)], check=True),
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, extension.sources))


class BuildExtension(build_ext):
    """Compiles the files side by side, which setuptools does not do by itself, and the CUDA
    files with nvcc."""

    def build_extension(self, ext: Extension) -> None:
        if hasattr(ext, "nvcc"):
            ext.extra_objects = compile_cuda(ext)
            ext.sources = []
            super().build_extension(ext)
            return
        version = subprocess.run([*self.compiler.compiler_so, "--version"], capture_output=True, text=True)
        ext.extra_compile_args += [] if "clang" in version.stdout else GCC_ARGS
        compile_one = self.compiler.compile
        settings = [*self.compiler.compiler_so, *ext.extra_compile_args, repr(ext.define_macros)]
        settings = [word for word in settings if not word.startswith("-isystem")]

        def compile_all(sources: list[str], **options: Any) -> list[str]:
            def one(source: str) -> str:
                def compile_to(to: Path) -> None:
                    (made,) = compile_one([source], **options)
                    shutil.copyfile(made, to)

                return reused(source, settings, compile_to)

            longest_first = sorted(sources, key=lambda source: "level_" not in source)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(pool.map(one, longest_first))

        self.compiler.compile = compile_all
        super().build_extension(ext)
        self.compiler.compile = compile_one


def of_this_machine(source: str) -> bool:
    """Whether a source has no kernels of a SIMD level, or those of the best level here."""
    other = "neon" if machine() in ("arm64", "aarch64") else "baseline"
    best = {"AVX512": "avx512", "AVX2": "avx2"}.get(torch.backends.cpu.get_cpu_capability(), other)
    return "level_" not in source or source.endswith(f"level_{best}.cpp")


def cpu_extensions() -> list[Extension]:
    """The CPU library; none where there is no compiler: pyebm then runs on its reference."""
    wanted = wish("PYEBM_CPU", "0", "1")
    compilers = (os.environ.get("CC"), os.environ.get("CXX"), "cc", "gcc", "clang", "c++")
    files = filter(of_this_machine if wish("PYEBM_SIMD", "native") else None, sources("cpu", "*.cpp"))
    if wanted != "0" and any(shutil.which(name.split(" ")[0]) for name in compilers if name):
        return [
            Extension(
                "pyebm._C",
                sources=list(files),
                depends=sorted(str(path) for path in Path("csrc").rglob("*.h")),
                define_macros=[STABLE_ABI, ("Py_LIMITED_API", "0x030a0000")],
                extra_compile_args=compile_args,
                library_dirs=library_paths(),
                libraries=["torch", "torch_cpu", "c10"],
                py_limited_api=True,
            )
        ]
    why = "PYEBM_CPU=0 leaves them out" if wanted == "0" else "no C++ compiler was found"
    if wanted == "1" or (STRICT and wanted == ""):
        sys.exit(f"pyebm: the CPU kernels can't be built: {why}")
    print(f"pyebm: BUILDING WITHOUT ANY KERNELS: {why}. pyebm will be slow, and say so.", file=sys.stderr)
    return []


cpu = cpu_extensions()
setup(
    ext_modules=[*cpu, *(cuda_extensions() if cpu else [])],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"} if cpu else {}},
)
