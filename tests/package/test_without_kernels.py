"""Where nothing was compiled, pyebm runs on its reference, and says so once."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import fresh
import pytest

import pyebm

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A folder with pyebm's Python alone in it."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "pyebm").mkdir()
    for path in (ROOT / "pyebm").iterdir():
        if path.suffix != ".so":
            (folder / "pyebm" / path.name).symlink_to(path)
    return folder


def run(folder, code):
    done = fresh.python("-c", code, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done


CALLS = """
import torch, pyebm
noise, well = pyebm.Noise(0), pyebm.targets.DoubleWell()
x = noise.randn((5, 2))
score = torch.ones(5, 2, requires_grad=True)
pyebm.dsm_loss(score, 0.3, noise).backward()
net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1))
with torch.no_grad():
    for p in net.parameters(): p.fill_(0.1)
found = [
    x, score.grad, pyebm.langevin_chain(x, well, 20, 0.01, noise),
    pyebm.samplers.MALA(well, 0.1, warmup=5)(x, 10, noise=noise),
    pyebm.samplers.HMC(well, 0.1, 3)(x, 10, noise=noise),
    pyebm.samplers.UnderdampedLangevin(well, 0.1)(x, 10, noise=noise),
    pyebm.langevin_chain(x, pyebm.targets.MLPEnergy(net), 5, 0.01, noise),
]
print([t.double().flatten().tolist() for t in found])
"""


def test_the_reference_stands_in_with_the_same_bits(bare):
    slow, fast = run(bare, CALLS), run(ROOT, CALLS)
    assert slow.stdout == fast.stdout
    assert slow.stderr.count("pyebm runs on its reference") == 1
    assert "_C.abi3.so is not beside pyebm; build it with" in slow.stderr
    assert "reference" not in fast.stderr


def test_the_ops_stand_in_too_and_cpu_by_name_is_refused(bare):
    code = """
import torch, warnings, pyebm
warnings.simplefilter("ignore")
z = torch.empty(3, 2)
torch.ops.pyebm.normal_(z, torch.tensor([0, 0, 0, 0]), None, None)
assert torch.equal(z, pyebm.Noise(0).randn((3, 2)))
try:
    pyebm.Noise(0).randn((3, 2), backend="cpu")
except RuntimeError as error:
    print(error)
"""
    assert "backend 'cpu' can't run: the compiled library" in run(bare, code).stdout


def configured(**environment):
    code = "import sys, runpy; sys.argv = ['setup.py', '--name']; runpy.run_path('setup.py')"
    given = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYEBM_", "CC", "CXX"))
    }
    done = fresh.python("-c", code, cwd=ROOT, env=given | environment)
    return done.returncode, done.stderr


def test_no_compiler_is_no_obstacle_unless_it_is_to_be():
    code, said = configured(PATH="/nowhere")
    assert code == 0
    assert "BUILDING WITHOUT ANY KERNELS: no C++ compiler was found" in said
    assert configured(PATH="/nowhere", PYEBM_WERROR="1")[0] == 1


def test_a_wheel_without_kernels_is_for_any_machine(tmp_path):
    arguments = ["bdist_wheel", "--dist-dir", tmp_path, "--bdist-dir", tmp_path / "made"]
    command = ["setup.py", "-q", "egg_info", "-e", tmp_path, "build", "-b", tmp_path / "b", *arguments]
    done = fresh.python(*command, cwd=ROOT, env=os.environ | {"PYEBM_CPU": "0", "PYEBM_WERROR": "0"})
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"pyebm_kernels-{pyebm.__version__}-py3-none-any.whl"
    assert not any(name.endswith(".so") for name in zipfile.ZipFile(wheel).namelist())
