"""The sdist holds the tree: the files that git has, and nothing that was built."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import fresh
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_BUILT = {"PYEBM_CUDA": "0"}
OF_SETUPTOOLS = ("PKG-INFO", "setup.cfg", "pyebm_kernels.egg-info/")


@pytest.fixture
def tree(tmp_path):
    """Copies the files that git has, or would take; returns the copy and the files' names."""
    if not (ROOT / ".git").exists():
        pytest.skip("this tree is an sdist's")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).exists())
    copy = tmp_path / "tree"
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return copy, names


def setup(folder, *arguments):
    done = fresh.python("setup.py", *arguments, cwd=folder, env=os.environ | NOT_BUILT)
    return done.returncode, done.stdout + done.stderr


def test_it_is_the_tree(tree):
    copy, names = tree
    (copy / "pyebm/_C.abi3.so").write_text("built")
    failed, said = setup(copy, "-q", "sdist")
    assert not failed, said
    (made,) = (copy / "dist").iterdir()
    with tarfile.open(made) as archive:
        packed = [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]
    assert sorted(name for name in packed if not name.startswith(OF_SETUPTOOLS)) == names


@pytest.mark.parametrize(("room", "asked"), [("cpu", "0"), ("cuda", "1")])
def test_a_tree_without_sources_builds_nothing(tmp_path, room, asked):
    """An empty list of sources would make a library that loads and has no op."""
    for name in (
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "csrc",
        "pyebm",
        "benchmarks",
        "kernels",
    ):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "csrc").unlink()
    other = "cuda" if room == "cpu" else "cpu"
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / other).symlink_to(ROOT / "csrc" / other)
    nvcc = tmp_path / "bin/nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text('#!/bin/sh\necho "Cuda compilation tools, release 12.4, V12.4.1"\n')
    nvcc.chmod(0o755)
    environment = os.environ | {"PYEBM_CUDA": asked, "CUDA_HOME": str(tmp_path)}
    done = fresh.python("setup.py", "--name", cwd=tmp_path, env=environment)
    assert done.returncode
    assert f"there are no sources csrc/{room}/" in done.stderr


@pytest.mark.parametrize(
    ("name", "found", "said"),
    [
        ("setuptools", "65.5.0", "setuptools >= 77.0 (here: 65.5.0): first"),
        ("torch", "2.9.1+cpu", "torch >= 2.10 (here: 2.9.1+cpu): first"),
        ("torch", None, "torch >= 2.10 (here: none): first"),
    ],
)
def test_what_it_needs_is_said_first(name, found, said):
    """A fresh environment is like this: --no-build-isolation leaves an old setuptools and no
    torch."""
    pretended = f"lambda name: {found!r} if name == {name!r} else real(name)"
    if found is None:
        pretended = f"lambda name: real('nothing-of-this-name' if name == {name!r} else name)"
    code = f"import importlib.metadata as m, runpy, sys; real = m.version; m.version = {pretended}; "
    code += "sys.argv = ['setup.py', '--name']; runpy.run_path('setup.py')"
    done = fresh.python("-c", code, cwd=ROOT, env=os.environ | NOT_BUILT)
    assert done.returncode
    assert said in done.stderr
    assert 'pip install "setuptools>=77" "torch>=2.10"' in done.stderr
    assert "Traceback" not in done.stderr
