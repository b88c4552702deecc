"""The recipe for a target in CONTRIBUTING.md, performed on a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import fresh
import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "csrc",
    "pyebm",
    "kernels",
    "benchmarks",
    "tests",
    "setup.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


def recipe() -> str:
    return (ROOT / "CONTRIBUTING.md").read_text().partition("\n## A target\n")[2].partition("\n## ")[0]


def edits() -> dict[str, list[tuple[str, str]]]:
    """{file: [(text, text in its place)]} of the recipe's diffs."""
    found = {}
    for block in re.findall(r"```diff\n(.*?)\n *```", recipe(), re.DOTALL):
        head, _, body = textwrap.dedent(block).partition("\n")
        found[head.removeprefix("--- ")] = [
            tuple(
                "".join(f"{line[1:]}\n" for line in hunk.split("\n") if line[:1] in sides)
                for sides in (" -", " +")
            )
            for hunk in body.split("\n@@\n")
        ]
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree after the recipe, which imports its own kernels."""
    copy = tmp_path_factory.mktemp("recipe")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    for room in ("kernels", "benchmarks"):
        (copy / "pyebm" / room).symlink_to(copy / room)
    for path, hunks in edits().items():
        text = (copy / path).read_text()
        for before, after in hunks:
            assert text.count(before) == 1, f"{path} does not have once what the recipe names:\n{before}"
            text = text.replace(before, after)
        (copy / path).write_text(text)
    return copy


def run(tree, *command, **environment):
    done = fresh.python(*command, cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)} | environment)
    return done.returncode, done.stdout + done.stderr


def compiles(header: str, tree: Path) -> tuple[bool, str]:
    done = subprocess.run(
        ["g++", "-std=c++17", "-fsyntax-only", "-x", "c++", "-include", tree / header, os.devnull],
        capture_output=True,
        text=True,
    )
    return done.returncode == 0, done.stderr


def test_it_is_short():
    assert len(edits()) == 8
    assert len(re.findall(r"^ *\+", recipe(), re.M)) < 60


INTERPRETED = """
import torch, pyebm
assert pyebm.__file__.startswith({tree!r}) and pyebm.backends()["cpu"] is not True
target, noise = pyebm.targets.Quartic(0.9), pyebm.Noise(3)
for shape, dtype in (((5, 7), torch.float32), ((3, 40), torch.bfloat16), ((2, 1100), torch.float64)):
    x = noise.randn(shape, dtype=dtype, backend="reference")
    for call in (
        lambda name: target.score(x, backend=name),
        lambda name: pyebm.langevin_chain(x, target, 3, 0.003, noise, thin=1, backend=name)[1],
    ):
        assert torch.equal(call("triton"), call("reference"))
    energy, score = torch.empty(2, len(x)), torch.empty_like(x)
    for name, row in zip(("triton", "reference"), energy):
        op = pyebm._ops.kernels(name, x)["target_energy"]
        op(row, score, x, target._index, target._checked("test", x), 0.0)
    assert torch.equal(*energy)
    torch.testing.assert_close(target(x.double()), 0.9 * x.double().pow(4).sum(1))
index = pyebm._schemas.TARGETS.index("quartic")
for op in (pyebm._ops.kernels(name, x)["target_score"] for name in ("reference", "triton")):
    for numbers in (0, 2, x.shape[1]):
        try:
            op(x.clone(), x, index, torch.ones(numbers, dtype=x.dtype))
        except ValueError as error:
            assert "quartic" in str(error)
        else:
            raise AssertionError(numbers)
print("equal")
"""


def test_triton_has_the_references_bits(tree):
    code, said = run(tree, "-c", INTERPRETED.format(tree=str(tree)), TRITON_INTERPRET="1")
    assert code == 0, said
    assert "equal" in said


def test_a_wrong_count_does_not_compile(tree):
    assert compiles("csrc/common/target_facts.h", tree) == (True, "")
    path = tree / "csrc/common/targets.h"
    text = path.read_text()
    for line in ('Quartic, "quartic", 2, 0', 'Quartic, "quartic", 0, 0'):
        path.write_text(text.replace('Quartic, "quartic", 1, 0', line))
        good, said = compiles("csrc/common/target_facts.h", tree)
        assert not good
        assert "the struct and the line in PYEBM_TARGETS differ" in said
    path.write_text(text)


WRONG = """
import pyebm, torch
from pyebm._kinds import KINDS
KINDS["quartic"] = KINDS["quartic"]._replace(numbers=2)
x = torch.ones(2, 3)
pyebm.targets.Quartic._numbers = lambda self: torch.ones(2)
pyebm.targets.Quartic().score(x, backend="triton")
"""


def test_triton_does_not_read_past_its_numbers(tree):
    code, said = run(tree, "-c", WRONG, TRITON_INTERPRET="1")
    assert code != 0
    assert "too many values to unpack (expected 1)" in said


def test_a_library_with_other_targets_is_refused(tree):
    """The copy's Python beside the library of the tree, which does not know the target."""
    library = tree / "pyebm/_C.abi3.so"
    library.symlink_to(ROOT / "pyebm/_C.abi3.so")
    code, said = run(tree, "-c", "import pyebm; print(pyebm.backends()['cpu'])")
    library.unlink()
    assert code == 0, said
    assert (
        "_C.abi3.so was loaded and has other targets than pyebm/_kinds.py: it is not of these sources" in said
    )


@pytest.mark.slow
def test_every_backend(tree):
    """Builds the copy, and runs the tests of targets over the new one: the CPU's kernels at every
    SIMD level, CUDA's in the emulator and Triton's in its interpreter against the reference."""
    code, said = run(tree, "setup.py", "-q", "build_ext", "--inplace", PYEBM_CUDA="0", PYEBM_WERROR="1")
    assert code == 0, said[-5000:]
    pytest_ = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "-rs")
    files = [
        f"tests/{name}.py"
        for name in ("targets/test_targets", "targets/test_target_energy", "ops/test_chain")
    ]
    code, said = run(tree, *pytest_, *files, "-k", "quartic")
    assert code == 0, said[-5000:]
    for backend in ("cpu-baseline", "cuda-emulated"):  # it was among those backends
        code, said = run(tree, *pytest_, *files, "-k", f"quartic and {backend} and loop", "--collect-only")
        assert code == 0, said
    some = "quartic and triton and (7x17 and (float32 or bfloat16))"
    code, said = run(tree, *pytest_, "tests/ops/test_chain.py", "-k", some, TRITON_INTERPRET="1")
    assert code == 0, said[-5000:]
