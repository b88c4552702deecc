"""Builds the kernels on LibTorch's stable ABI: one abi3 wheel for torch >= 2.10 and Python >= 3.10.

The CUDA half needs nvcc, but neither a GPU nor a torch with CUDA. It is built where torch has CUDA and nvcc is found; not for a
CPU-only torch, which can't load it, unless PYEBM_CUDA=1 asks for it. PYEBM_CUDA=1 makes it an error that it can't be built,
PYEBM_CUDA=0 forbids it. TORCH_CUDA_ARCH_LIST ("8.0;9.0+PTX") names the GPUs to build for.
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    import torch
    from torch.utils.cpp_extension import include_paths, library_paths
except ImportError:
    sys.exit("pyebm builds against the torch it will run with: install torch >= 2.10 first, then build with --no-build-isolation")

STRICT = os.environ.get("PYEBM_WERROR") == "1"  # set by the project's own checks: users' compilers may know other warnings

compile_args = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    # Bits are promised: no fused multiply-add, and no reordering either (-ffast-math must never be added).
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    *(["-Werror"] if STRICT else []),
    *(f"-isystem{path}" for path in include_paths()),
]


ARCHITECTURES = "8.0;8.6;8.9;9.0;10.0;12.0+PTX"
OLDEST_NVCC = (12, 0)
STABLE_ABI = ("TORCH_TARGET_VERSION", "0x020a000000000000")


def find_nvcc() -> tuple[str, tuple[int, int]] | str:
    """nvcc and its version, or a sentence that says what was found instead."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    nvcc = next(filter(None, (shutil.which("nvcc", path=f"{home}/bin") for home in homes)), None) or shutil.which("nvcc")
    if nvcc is None:
        where = f"in {', '.join(homes)} or " if homes else ""
        return f"nvcc was not found {where}on the PATH; install the CUDA toolkit, or set CUDA_HOME to where it is"
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"release (\d+)\.(\d+)", said)
    if version is None:
        return f"{nvcc} --version gave no release number: {said!r}"
    found = (int(version[1]), int(version[2]))
    if found < OLDEST_NVCC:
        return f"{nvcc} is of CUDA {found[0]}.{found[1]}; pyebm needs CUDA {OLDEST_NVCC[0]}.{OLDEST_NVCC[1]} or later"
    return nvcc, found


def architecture_flags(nvcc: str) -> list[str]:
    """nvcc's -gencode for every architecture asked for, or for those of the default list that this nvcc knows."""
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"compute_(\d+)", listed))
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    flags = []
    for name in re.split(r"[;, ]+", asked.strip() or ARCHITECTURES):
        parts = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", name)
        number = parts[1] + parts[2] if parts else ""
        if number not in known:
            if not asked:
                continue
            versions = ", ".join(f"{int(n) // 10}.{int(n) % 10}" for n in sorted(known, key=int))
            known_to = f"{nvcc} does not know; it knows {versions}, each with +PTX or without"
            sys.exit(f"TORCH_CUDA_ARCH_LIST names {name!r}, which {known_to}")
        suffix = parts[3]
        flags.append(f"-gencode=arch=compute_{number}{suffix},code=sm_{number}{suffix}")
        if parts[4]:
            flags.append(f"-gencode=arch=compute_{number}{suffix},code=compute_{number}{suffix}")
    return flags


def cuda_extensions() -> list[Extension]:
    wanted = os.environ.get("PYEBM_CUDA", "")
    if wanted not in ("", "0", "1"):
        sys.exit(f"PYEBM_CUDA must be 0, 1 or unset, got {wanted!r}")
    if wanted == "0" or (wanted == "" and torch.version.cuda is None):
        return []
    found = find_nvcc()
    if isinstance(found, str):
        if wanted == "1":
            sys.exit(f"PYEBM_CUDA=1 asks for the CUDA kernels, but {found}")
        print(f"pyebm: building without the CUDA kernels: {found}", file=sys.stderr)
        return []
    nvcc, _ = found
    dry = subprocess.run([nvcc, "--dryrun", "-c", "-x", "cu", os.devnull], capture_output=True, text=True, check=True)
    extension = Extension(
        "pyebm._C_cuda",
        sources=sorted(str(path) for path in Path("csrc/cuda").glob("*.cu")),
        depends=sorted(str(path) for path in Path("csrc").rglob("*.h")),
        define_macros=[STABLE_ABI],
        library_dirs=[*library_paths(), *re.findall(r'"-L([^"]+)"', dry.stderr + dry.stdout)],
        libraries=["torch", "torch_cpu", "c10", "cudart_static", "dl", "rt", "pthread"],
        extra_link_args=["-Wl,--no-as-needed", "-Wl,--exclude-libs,ALL"],
        py_limited_api=True,
    )
    extension.nvcc = [nvcc, *architecture_flags(nvcc)]
    return [extension]


def compile_cuda(extension: Extension, folder: Path) -> list[str]:
    """The CUDA sources to objects, side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    built_for = " ".join(re.findall(r"code=(\w+)", " ".join(extension.nvcc)))
    command = [
        *extension.nvcc,
        "-std=c++17",
        "-O3",
        # Bits are promised: every product, sum, quotient and root is rounded by itself (never --use_fast_math).
        *("--fmad=false", "--prec-sqrt=true", "--prec-div=true", "--ftz=false"),
        f"-Xcompiler=-fPIC,-fvisibility=hidden,-Wall{',-Werror' if STRICT else ''}",
        *(["-Werror=all-warnings"] if STRICT else []),
        "-DUSE_CUDA",
        "-D" + "=".join(STABLE_ABI),
        f'-DPYEBM_CUDA_ARCHS="{built_for}"',
        *(f"-isystem={path}" for path in include_paths()),
        f"--threads={os.cpu_count()}",
    ]

    def compile_one(source: str) -> str:
        made = str(folder / f"{Path(source).stem}.o")
        subprocess.run([*command, "-c", source, "-o", made], check=True)
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, extension.sources))


class BuildExtension(build_ext):
    """Compiles the files side by side, which setuptools alone does not, and the CUDA ones with nvcc."""

    def build_extension(self, ext: Extension) -> None:
        if hasattr(ext, "nvcc"):
            target = Path(self.get_ext_fullpath(ext.name))
            newest = max(Path(path).stat().st_mtime for path in [*ext.sources, *ext.depends, __file__])
            if not self.force and target.exists() and target.stat().st_mtime > newest:
                return
            ext.extra_objects = compile_cuda(ext, Path(self.build_temp) / "cuda")
            ext.sources = []
            super().build_extension(ext)
            return
        compile_one = self.compiler.compile

        def compile_all(sources: list[str], **options: object) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_one([source], **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_all
        super().build_extension(ext)
        self.compiler.compile = compile_one


setup(
    ext_modules=[
        Extension(
            "pyebm._C",
            sources=sorted(str(path) for path in Path("csrc/cpu").glob("*.cpp")),
            depends=sorted(str(path) for path in Path("csrc").rglob("*.h")),
            define_macros=[STABLE_ABI, ("Py_LIMITED_API", "0x030a0000")],
            extra_compile_args=compile_args,
            library_dirs=library_paths(),
            libraries=["torch", "torch_cpu", "c10"],
            py_limited_api=True,
        ),
        *cuda_extensions(),
    ],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
