"""The CUDA kernels, compiled by g++: equal to the reference in every thread order, under
sanitizers, and far apart in memory.

The tests of every op run with this backend too; these tests are about the backend itself.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from itertools import product

import pytest
import sampler_op_cases
import torch
from cases import assert_equal, levels, normal
from choice import thinned
from emulated import BACKEND, FLAGS, ROOT

import pyebm
from pyebm import Noise, _ops

NOISE = Noise(7, step=3)


def losses(backend, x, rows, reduction, noise=NOISE):
    """The loss's value and its gradient."""
    pred = x.detach().clone().requires_grad_()
    loss = pyebm.dsm_loss(pred, rows, noise, reduction=reduction, backend=backend)
    above = normal(*loss.shape, dtype=loss.dtype, seed=5)
    return loss.detach(), *torch.autograd.grad(loss, pred, above)


def every_op(backend, shape, dtype):
    """The results of every op that promises bits."""
    x, score, rows = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1), levels(shape[0])
    mask = normal(*shape, seed=2) > 0
    seeds = Noise(torch.arange(shape[0]), sample_ids=torch.arange(shape[0]).flip(0))
    yield NOISE.randn(shape, dtype=dtype, backend=backend)
    yield NOISE.rand(shape, dtype=dtype, backend=backend)
    yield pyebm.perturb(x, rows, seeds, alpha=0.5, backend=backend)
    step = {"clamp": (-1.5, 1.5), "score_clip": 1.0, "mask": mask, "return_mean": True}
    yield from pyebm.langevin_step(x, score, rows, NOISE, temperature=0.7, backend=backend, **step)
    yield pyebm.affine_step(x, score, 0.9, rows, 0.1, seeds, backend=backend)
    yield from losses(backend, x, rows, "none")
    for reduction in ("sample", "mean"):
        yield losses(backend, x, rows, reduction)[1]
    for target in (pyebm.targets.DoubleWell(), pyebm.targets.Rosenbrock(), pyebm.targets.Ackley()):
        options = {
            "n_steps": 2,
            "step_size": 0.01 * rows.unsqueeze(1),
            "noise": NOISE,
            "thin": 1,
            "return_diverged": True,
        }
        yield from pyebm.langevin_chain(x, target, backend=backend, **options)
    yield from sampler_op_cases.results(_ops.kernels(backend, x), shape, dtype)


ORDERS = product(range(9), [(3, 5), (2, 4099), (70, 17), (5, 3, 7, 3)])


@pytest.mark.parametrize(("order", "shape"), thinned(ORDERS, 3), ids=str)
def test_every_thread_order_gives_the_same_bits(monkeypatch, order, shape):
    monkeypatch.setenv("PYEBM_EMULATOR_SEED", str(order))
    for got, want in zip(
        every_op(BACKEND, shape, torch.float32), every_op("reference", shape, torch.float32), strict=True
    ):
        assert_equal(got, want)


@pytest.mark.parametrize("reduction", ["sample", "sum", "mean", "batchmean"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (40, 300), (2, 40_001), (900, 2)], ids=str)
def test_sums_do_not_depend_on_the_order(monkeypatch, reduction, shape):
    """Per-sample sums and totals: the same bits in every thread order, and close to the
    reference's."""
    x, rows = normal(*shape), levels(shape[0])
    first = pyebm.dsm_loss(x, rows, NOISE, reduction=reduction, backend=BACKEND)
    torch.testing.assert_close(
        first, pyebm.dsm_loss(x, rows, NOISE, reduction=reduction, backend="reference"), rtol=3e-6, atol=0
    )
    for order in range(1, 9):
        monkeypatch.setenv("PYEBM_EMULATOR_SEED", str(order))
        assert_equal(pyebm.dsm_loss(x, rows, NOISE, reduction=reduction, backend=BACKEND), first)


def test_a_sample_does_not_depend_on_its_batch():
    x, rows = normal(50, 2049), levels(50)
    whole = pyebm.dsm_loss(x, rows, NOISE, reduction="sample", backend=BACKEND)
    part = pyebm.dsm_loss(
        x[17:20], rows[17:20], NOISE.shard(first_sample=17), reduction="sample", backend=BACKEND
    )
    assert_equal(part, whole[17:20])


def test_rows_more_than_32_bits_apart():
    """Memory that is never touched costs nothing: two rows 2^31 elements apart need 64-bit
    offsets."""
    far = torch.empty(2**31 + 16, dtype=torch.bfloat16).as_strided((2, 16), (2**31, 1))
    x = normal(2, 16, dtype=torch.bfloat16)
    want = pyebm.langevin_step(x, x, 0.1, NOISE, backend="reference")
    for score in (far, x):  # the layout of rows, and the strided one
        far.copy_(x)
        pyebm.langevin_step_(far, score, 0.1, NOISE, backend=BACKEND)
        assert_equal(far.contiguous(), want)


EQUAL = """
for shape in {shapes!r}:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        both = (t.every_op(backend, shape, dtype) for backend in ("cuda-emulated", "reference"))
        for got, want in zip(*both, strict=True):
            assert torch.equal(got, want), (shape, dtype)
print("equal")
"""


def under_sanitizer(sanitizer, code, sources, seed=2):
    """Run ``code`` as in_a_process does, under "thread" or "address,undefined"."""
    library, command = ("libtsan.so", ["setarch", "-R"]) if sanitizer == "thread" else ("libasan.so", [])
    options = {
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1",
        "TSAN_OPTIONS": "halt_on_error=1 ignore_noninstrumented_modules=1",
        "PYEBM_EMULATOR_SEED": str(seed),
    }
    return in_a_process(["-O1", "-g1", f"-fsanitize={sanitizer}"], code, sources, library, command, **options)


def in_a_process(flags, code, sources="", preload="", command=(), **environment):
    """Run ``code`` with the emulated sources of these names (all of them if none) compiled with
    these flags."""
    full = os.environ | {
        "PYEBM_EMULATED_FLAGS": " ".join(flags),
        "PYEBM_EMULATED_SOURCES": sources,
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(
        [sys.executable, ROOT / "tests/gpuless/emulated.py"], env=full, check=True, stdout=subprocess.DEVNULL
    )
    if preload:
        full["LD_PRELOAD"] = subprocess.check_output(
            ["g++", f"-print-file-name={preload}"], text=True
        ).strip()
    paths = [str(ROOT / "tests"), str(ROOT / "tests/gpuless")]
    script = (
        f"import sys; sys.path[:0] = {paths!r}; import torch, emulated; emulated.register(); import"
        f" test_emulated as t\n{code}"
    )
    command = [*command, sys.executable, "-c", script]
    return subprocess.run(
        command, env=full | environment, capture_output=True, text=True, timeout=900, cwd=ROOT
    )


@pytest.mark.slow
def test_under_address_and_undefined_behaviour_sanitizers():
    code = EQUAL.format(shapes=[(3, 5), (2, 4099), (5, 3, 7, 3)])
    done = under_sanitizer("address,undefined", code, "", seed=3)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "equal" in done.stdout


@pytest.mark.slow
def test_under_the_thread_sanitizer():
    """The grids are small. Address-space randomisation is off: this TSan does not know its high
    mappings."""
    done = under_sanitizer("thread", EQUAL.format(shapes=[(3, 5), (5, 37), (1, 6000)]), "")
    assert done.returncode == 0, done.stderr[-5000:]
    assert "equal" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="asks g++ for x86's fused multiply-add"
)
def test_a_fused_multiply_add_is_noticed():
    """The same sources with contraction allowed must not pass for equal."""
    assert "-ffp-contract=off" in FLAGS
    code = (
        "n = t.NOISE\nassert torch.equal(n.randn((2, 4099), backend=t.BACKEND), n.randn((2, 4099),"
        " backend='reference'))"
    )
    done = in_a_process(["-O2", "-mfma", "-ffp-contract=fast"], code, "noise")
    assert done.returncode != 0
    assert "AssertionError" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "right"), [(["-O2"], True), (["-O2", "-DPYEBM_PLANT_32_BIT_OFFSET"], False)], ids=str
)
def test_a_32_bit_offset_is_noticed(flags, right):
    """The far-apart test above must fail where an offset is cut to 32 bits."""
    done = in_a_process(flags, "t.test_rows_more_than_32_bits_apart()", "langevin")
    assert (done.returncode == 0) is right, done.stderr[-3000:]
