"""The dense targets' CUDA kernels, emulated, at the sizes where the launches change: components in
parts, large tiles, several windows."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from cases import assert_equal, normal
from choice import thinned
from dense_cases import MAKE, assert_within_bound, mixture
from emulated import BACKEND
from target_cases import loop
from test_emulated import in_a_process, under_sanitizer

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")
NOISE = Noise(3, step=4)


PARTS = product(("components", "both"), [(300, 3), (300, 20), (4100, 5)])


@pytest.mark.parametrize(("scale", "parts"), thinned(PARTS, 2))
def test_components_in_parts(scale, parts):
    """From 256 components on they are split, into 32 parts at most."""
    count, dim = parts
    target, x = mixture(count, dim, scale, spread=2.0), normal(20, dim)
    for dtype in (torch.float32, torch.float64):
        assert_within_bound(target.score(x.to(dtype), backend=BACKEND), target, x.to(dtype))
    options = {"thin": 1, "backend": BACKEND}
    chain = pyebm.langevin_chain(x, target, 2, [0.01, 0.02], NOISE, **options)
    assert_equal(chain, loop(x, target, 2, [0.01, 0.02], NOISE, **options))
    far = torch.cat((x, torch.full((1, dim), torch.nan)))
    assert_equal(target.score(far, backend=BACKEND)[:20], target.score(x, backend=BACKEND))


@pytest.mark.parametrize("make", thinned(((make,) for make in MAKE), 3))
def test_large_tiles_give_the_bits_of_small_ones(make):
    """gaussian-full has two parts of 64 dimensions here, so half the samples suffice for large
    tiles."""
    dim, times = (70, 205) if make == "gaussian-full" else (5, 410)
    dtype = torch.float64 if make == "mixture-diagonal" else torch.float32
    target, x = MAKE[make](dim), normal(40, dim, dtype=dtype)
    alone, together = (target.score(each, backend=BACKEND) for each in (x, x.repeat(times, 1)))
    assert_equal(together, alone.repeat(times, 1))
    if make == "mixture":  # its small tiles take all steps in one launch
        few, many = (Noise(0, sample_ids=torch.arange(40).repeat(n)) for n in (1, times))
        got = pyebm.langevin_chain(x.repeat(times, 1), target, 2, 0.01, many, backend=BACKEND)
        assert_equal(got, pyebm.langevin_chain(x, target, 2, 0.01, few, backend=BACKEND).repeat(times, 1))


@pytest.mark.parametrize("make", MAKE)
def test_every_thread_order_gives_the_same_bits(monkeypatch, make):
    for shape in ((18, 3), (3, 70), (2, 150)):
        target, x = MAKE[make](shape[1]), normal(*shape)

        def run(target=target, x=x):
            return target.score(x, backend=BACKEND), pyebm.langevin_chain(
                x, target, 2, 0.01, NOISE, backend=BACKEND
            )

        monkeypatch.setenv("PYEBM_EMULATOR_SEED", "0")
        first = run()
        for order in range(1, 9):
            monkeypatch.setenv("PYEBM_EMULATOR_SEED", str(order))
            assert_equal(run(), first)


SANITIZED = """
import pyebm, torch
from cases import normal
from dense_cases import MAKE
NOISE = pyebm.Noise(3, step=4)
for make in MAKE:
    for shape in ((3, 2), (18, 37), (2, 150)):
        target = MAKE[make](shape[1])
        for dtype in (torch.float32, torch.float64):
            x = normal(*shape, dtype=dtype)
            options = {'thin': 1, 'return_diverged': True, 'backend': t.BACKEND}
            got = pyebm.langevin_chain(x, target, 2, 0.01, NOISE, **options)
            assert target.score(got[0], backend=t.BACKEND).isfinite().all()
many = pyebm.targets.GaussianMixture(normal(300, 20), 0.7)
assert pyebm.langevin_chain(normal(18, 20), many, 2, 0.01, NOISE, backend=t.BACKEND).isfinite().all()
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_under_sanitizers(sanitizer):
    done = under_sanitizer(sanitizer, SANITIZED, "dense targets chain langevin")
    assert done.returncode == 0, done.stderr[-5000:]
    assert "done" in done.stdout


SMALL_WORKSPACE = """
import pyebm, torch
from cases import levels, normal
from target_cases import loop
from dense_cases import MAKE
NOISE = pyebm.Noise(3, step=4)
for make in MAKE:
    for dim in (3, 37):  # of 16 samples at a time
        target, x = MAKE[make](dim), normal(53, dim)
        whole = target.score(x, backend=t.BACKEND)
        assert torch.equal(torch.cat([target.score(part, backend=t.BACKEND) for part in x.split(7)]), whole)
        for step_size in (0.01 * levels(53), [0.01, 0.02]):
            options = {"thin": 1, "backend": t.BACKEND}
            got = pyebm.langevin_chain(x, target, 2, step_size, NOISE, **options)
            assert all(map(torch.equal, got, loop(x, target, 2, step_size, NOISE, **options)))
print("equal")
"""


@pytest.mark.slow
def test_more_samples_than_the_workspace_takes():
    done = in_a_process(["-O2", "-DPYEBM_DENSE_WORKSPACE=1"], SMALL_WORKSPACE, "dense targets chain langevin")
    assert "equal" in done.stdout, done.stderr[-3000:]
