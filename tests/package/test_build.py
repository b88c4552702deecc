"""The libraries' build and loading where something is missing or does not fit: the message says so,
and pyebm works on where it can."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import fresh
import pytest
import torch

from pyebm import __version__, _ops

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def toolkit(tmp_path):
    """toolkit(release, architectures) makes a CUDA_HOME whose nvcc claims these."""

    def make(release: str, architectures: str = "80 86 89 90") -> Path:
        (tmp_path / "bin").mkdir()
        nvcc = tmp_path / "bin/nvcc"
        listed = "\\n".join(f"compute_{name}" for name in architectures.split())
        says = {"--version": release, "--list-gpu-arch": listed}
        script = [f'[ "$1" = {option} ] && printf "{text}\\n"' for option, text in says.items()]
        nvcc.write_text("\n".join(["#!/bin/sh", *script, "true\n"]))
        nvcc.chmod(0o755)
        return tmp_path

    return make


def configure(cuda="13.0", **environment):
    """Runs setup.py beside a torch with that CUDA, on a machine whose PATH has no nvcc; returns
    whether it succeeded, and what it said before building."""
    full = {**os.environ, "PATH": "/usr/bin:/bin", **environment}
    for name in {"CUDA_PATH", "CUDA_HOME", "PYEBM_CUDA", "TORCH_CUDA_ARCH_LIST"} - set(environment):
        full.pop(name, None)
    code = (
        f"import runpy, sys, torch; torch.version.cuda = {cuda!r}; sys.argv = ['setup.py', '--name'];"
        " runpy.run_path('setup.py')"
    )
    done = fresh.python("-c", code, env=full, cwd=ROOT)
    return done.returncode == 0, done.stdout + done.stderr


RELEASE = "Cuda compilation tools, release {}, V{}.1"


def test_no_nvcc():
    built, said = configure()
    assert built
    assert (
        "building without the CUDA kernels: nvcc was not found on the PATH; install the CUDA toolkit, or set"
        " CUDA_HOME" in said
    )
    built, said = configure(PYEBM_CUDA="1", CUDA_HOME="/nowhere")
    assert not built
    assert "PYEBM_CUDA=1 asks for the CUDA kernels, but nvcc was not found in /nowhere or on the PATH" in said


def test_a_torch_without_cuda_gets_no_kernels_that_it_could_not_load(toolkit):
    home = str(toolkit("hello"))  # an nvcc that is refused as soon as it is asked
    built, said = configure(cuda=None, CUDA_HOME=home)
    assert built
    assert "building without the CUDA kernels: torch" in said
    assert "has no CUDA and could not load them; PYEBM_CUDA=1 builds them all the same" in said
    assert configure(cuda=None, CUDA_HOME=home, PYEBM_CUDA="0") == (True, "pyebm-kernels\n")
    built, said = configure(cuda=None, CUDA_HOME=home, PYEBM_CUDA="1")
    assert not built
    assert "--version gave no release number" in said


def test_an_old_nvcc(toolkit):
    home = str(toolkit(RELEASE.format("11.8", "11.8")))
    built, said = configure(CUDA_HOME=home)
    assert built
    assert "nvcc is of CUDA 11.8; pyebm needs CUDA 12.0 or later" in said
    assert not configure(CUDA_HOME=home, PYEBM_CUDA="1")[0]


def test_an_nvcc_that_says_something_else(toolkit):
    built, said = configure(CUDA_HOME=str(toolkit("hello")), PYEBM_CUDA="1")
    assert not built
    assert "--version gave no release number: 'hello" in said


@pytest.mark.parametrize("asked", ["9.9", "8.0;sm_90", "Hopper"])
def test_an_unknown_architecture(toolkit, asked):
    built, said = configure(
        CUDA_HOME=str(toolkit(RELEASE.format("12.4", "12.4"))), TORCH_CUDA_ARCH_LIST=asked
    )
    assert not built
    assert f"TORCH_CUDA_ARCH_LIST names {asked.split(';')[-1]!r}, which" in said
    assert "it knows 8.0, 8.6, 8.9, 9.0, each with +PTX or without" in said


def test_an_nvcc_that_lacks_the_latest_architectures(toolkit):
    built, said = configure(CUDA_HOME=str(toolkit(RELEASE.format("12.4", "12.4"))))
    assert (built, "pyebm-kernels" in said) == (True, True), said


def test_a_wish_that_is_none():
    built, said = configure(PYEBM_CUDA="yes")
    assert not built
    assert "PYEBM_CUDA must be 0, 1 or unset, got 'yes'" in said


class TestLoading:
    @pytest.fixture(autouse=True)
    def _cuda_torch(self, monkeypatch):
        monkeypatch.setattr(torch.version, "cuda", "13.0")

    def test_without_the_library(self, monkeypatch, tmp_path):
        monkeypatch.setattr(_ops, "_C_CUDA", tmp_path / "_C_cuda.abi3.so")
        assert (
            "_C_cuda.abi3.so is not beside pyebm; build it with `PYEBM_CUDA=1 pip install"
            in _ops._load_cuda()
        )

    def test_a_library_of_another_torch(self, monkeypatch, tmp_path):
        broken = tmp_path / "_C_cuda.abi3.so"
        broken.write_bytes(b"\x7fELF, not really")
        monkeypatch.setattr(_ops, "_C_CUDA", broken)
        said = _ops._load_cuda()
        assert f"does not load with torch {torch.__version__} for CUDA 13.0" in said
        assert "it may have been built for another torch: build it with" in said


def test_a_library_without_its_ops_is_none(tmp_path):
    """A build from a tree without sources once made such a library: it loads."""
    package = tmp_path / "pyebm"
    package.mkdir()
    for path in (ROOT / "pyebm").iterdir():
        if path.suffix != ".so":
            (package / path.name).symlink_to(path)
    command = [shutil.which("g++") or "c++", "-shared", "-o", package / "_C.abi3.so", "-x", "c++", os.devnull]
    subprocess.run(command, check=True)
    code = "import pyebm, torch; print(pyebm.backends()['cpu']); pyebm.Noise(0).randn((2, 2))"
    done = fresh.python("-c", code, cwd=tmp_path)
    assert (
        f"_C.abi3.so was loaded and lacks {len(_ops.SCHEMAS)} of its ops, normal_ among them" in done.stdout
    )
    assert "RuntimeError: backend 'cpu' can't run: _C.abi3.so was loaded and lacks" in done.stderr


def test_the_levels_of_a_build():
    code = (
        "import runpy, sys, setuptools; sys.argv = ['setup.py', '--name']; made = {}\n"
        "setuptools.setup = lambda **given: made.update(given)\n"
        "runpy.run_path('setup.py')\n"
        "print(*(s for s in made['ext_modules'][0].sources if 'level_' in s))"
    )

    def levels(wanted):
        full = os.environ | {"PYEBM_CUDA": "0", "PYEBM_SIMD": wanted}
        done = fresh.python("-c", code, env=full, cwd=ROOT)
        return re.findall(r"level_(\w+)\.cpp", done.stdout) or done.stderr

    every = sorted(path.stem.removeprefix("level_") for path in (ROOT / "csrc/cpu/simd").glob("level_*.cpp"))
    assert levels("") == every
    assert levels("native") == [_ops.simd()]
    assert "PYEBM_SIMD must be native or unset, got 'avx2'" in levels("avx2")


def test_a_library_without_this_machines_level(tmp_path, monkeypatch):
    library = tmp_path / "no_level.so"
    source = ROOT / "csrc/cpu/simd/choose_level.cpp"
    subprocess.run(["g++", "-std=c++17", "-fPIC", "-shared", "-o", library, source], check=True)
    monkeypatch.setattr(_ops, "_C", library)
    without = _ops.library.__wrapped__()
    monkeypatch.undo()
    monkeypatch.setattr(_ops, "library", lambda: without)
    with pytest.raises(ValueError, match="simd level must be one that this machine and this build have"):
        _ops.simd("baseline")
    assert "was built with PYEBM_SIMD=native for another machine's SIMD level" in str(_ops._load())


def test_the_ops_of_the_cuda_library():
    sources = "".join(path.read_text() for path in (ROOT / "csrc/cuda").glob("*.cu"))
    assert sorted(_ops._OPS_OF_CUDA) == sorted(re.findall(r"PYEBM_IMPL\(m, (\w+)\)", sources))


def test_a_torch_without_cuda():
    if torch.version.cuda is None:
        assert (
            f"torch {torch.__version__} is built without CUDA; install a CUDA build of torch"
            in _ops.backends()["cuda"]
        )


@pytest.mark.parametrize("cuda", [None, "13.0"])
def test_importing_never_fails_and_a_cpu_torch_never_loads_it(cuda):
    """Here torch claims CUDA and has none of its symbols, so the library can't load, if there is
    one."""
    code = f"import torch; torch.version.cuda = {cuda!r}; import pyebm; print(pyebm.backends()['cpu']); "
    code += "print('_C_cuda' in open('/proc/self/maps').read()); print(pyebm.backends()['cuda'])"
    done = fresh.python("-c", code, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    runs, loaded, why = done.stdout.splitlines()[:3]
    assert runs == "True"
    if not torch.cuda.is_available():
        assert loaded == "False"
        assert "install" in why


def test_the_citation_and_the_changelog_have_the_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    changes = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## \[(.+?)\](?: - \d{4}-\d\d-\d\d)?$", changes, re.M)
    assert heads[:2] == ["Unreleased", __version__]
    assert len(heads) == len(re.findall("^## ", changes, re.M))
    parts = set(re.findall("^### (.+)$", changes, re.M))
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {part for part in parts if not part.startswith("Upgrading from ")} <= known


def test_the_cuda_library_brings_the_torch_that_it_needs():
    """No library but libtorch_cuda.so has torch's CUDA symbols, and libtorch.so alone brings it: a
    linker that goes by need dropped that one, and the library loaded beside no torch."""
    if not _ops._C_CUDA.exists():
        pytest.skip("_C_cuda.abi3.so is not built here")
    assert b"\0libtorch.so\0" in _ops._C_CUDA.read_bytes()
