"""Builds the CPU kernels on LibTorch's stable ABI: one abi3 wheel for torch >= 2.10 and Python >= 3.10."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
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


class BuildExtension(build_ext):
    """Compiles the files side by side, which setuptools alone does not."""

    def build_extension(self, ext: Extension) -> None:
        from concurrent.futures import ThreadPoolExecutor

        compile_one = self.compiler.compile

        def compile_all(sources: list[str], **options: object) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_one([source], **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_all
        super().build_extension(ext)


setup(
    ext_modules=[
        Extension(
            "pyebm._C",
            sources=sorted(str(path) for path in Path("csrc/cpu").glob("*.cpp")),
            depends=sorted(str(path) for path in Path("csrc").rglob("*.h")),
            define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000"), ("Py_LIMITED_API", "0x030a0000")],
            extra_compile_args=compile_args,
            library_dirs=library_paths(),
            libraries=["torch", "torch_cpu", "c10"],
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
