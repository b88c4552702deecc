"""The CUDA library on a device, beyond the tests of every op, which the fixture ``backend`` runs
there too: all marked ``gpu``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import assert_equal, levels, normal

import pyebm
from pyebm import Noise, NoiseCounter

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
NOISE = Noise(3, step=5, stream=2, first_sample=7)
STEPS = 3


@pytest.fixture(params=["cuda", "triton"])
def on_device(request):
    """Each backend that runs on a device; the skip message says why one is missing."""
    state = pyebm.backends()[request.param]
    if state is not True:
        pytest.skip(f"{request.param}: {state}")
    return request.param


def data(*shape, seed=0):
    return normal(*shape, device="cuda", seed=seed)


def everything(backend, x, score, rows, noise):
    """Yields the result of each op; for the losses, of their backward pass."""
    pred = score.clone().requires_grad_()
    pyebm.dsm_loss(pred, rows, noise, backend=backend).backward()
    yield pred.grad
    yield pyebm.perturb(x, rows, noise, backend=backend)
    yield pyebm.langevin_step(x, score, rows, noise, clamp=(-1.0, 1.0), mask=x > 0, backend=backend)
    yield noise.randn(x.shape, device="cuda", backend=backend)
    if backend == "cuda":
        yield pyebm.langevin_chain(
            x, pyebm.targets.DoubleWell().to("cuda"), STEPS, 0.01, noise, backend=backend
        )


def test_nothing_waits_for_the_host(on_device):
    x, score, rows = data(64, 300), data(64, 300, seed=1), levels(64, "cuda")
    list(everything(on_device, x, score, rows, NOISE))  # the first call copies the noise's name and compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        list(everything(on_device, x, score, rows, NOISE))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_another_stream_is_the_one_that_runs(on_device):
    """Work is queued behind a long wait on a side stream: a kernel on the default stream would
    run too early."""
    x, score, rows = data(64, 300), data(64, 300, seed=1), levels(64, "cuda")
    want = [t.clone() for t in everything("reference", x, score, rows, NOISE)]
    late = torch.zeros_like(x)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late.copy_(x)
        got = list(everything(on_device, late, score, rows, NOISE))
    stream.synchronize()
    for one, expected in zip(got, want, strict=False):
        assert_equal(one, expected)


def test_a_captured_graph_draws_fresh_noise_at_each_replay(on_device):
    x, counter = data(64, 300), NoiseCounter(NOISE, "cuda")
    out = torch.empty_like(x)
    pyebm.langevin_step(x, -x, 0.1, counter, backend=on_device)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out.copy_(pyebm.langevin_step(x, -x, 0.1, counter, backend=on_device))
        counter.advance_()
    for step in range(STEPS):
        graph.replay()
        assert_equal(
            out, pyebm.langevin_step(x, -x, 0.1, NOISE.at(step=NOISE.step + step), backend="reference")
        )
    assert counter.step == NOISE.step + STEPS


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second CUDA device")
def test_the_second_device_while_the_first_is_current(on_device):
    x = normal(64, 300, device="cuda:1")
    with torch.cuda.device(0):
        got = pyebm.langevin_step(x, -x, 0.1, NOISE, backend=on_device)
        assert torch.cuda.current_device() == 0
    assert got.device == x.device
    assert_equal(got, pyebm.langevin_step(x, -x, 0.1, NOISE, backend="reference"))


def test_a_launch_that_fails_names_the_op():
    """The call runs in a process of its own, because it loses the device."""
    if pyebm.backends()["cuda"] is not True:
        pytest.skip(f"cuda: {pyebm.backends()['cuda']}")
    code = """
import torch, pyebm
x = torch.zeros(4, 40, device="cuda")
try:
    torch.cuda._sleep(1)
    torch.zeros(1, device="cuda")[torch.tensor([10**6], device="cuda")]  # a device-side assertion
    torch.cuda.synchronize()
except RuntimeError:
    pass
pyebm.perturb(x, 0.5, pyebm.Noise(0), backend="cuda")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert (
        "perturb: the kernel could not be launched on the GPU" in done.stderr
        or "device-side assert" in done.stderr
    )


def test_more_than_32_bits_of_elements(on_device):
    if torch.cuda.mem_get_info()[0] < 9 << 30:
        pytest.skip("needs 9 GB of free device memory")
    shape = (3, 2**30 + 5)
    whole = NOISE.randn(shape, dtype=torch.bfloat16, device="cuda", backend=on_device)
    last = NOISE.shard(first_sample=NOISE._first_sample + 2)
    assert_equal(
        whole[2:, -1000:],
        last.randn((1, shape[1]), dtype=torch.bfloat16, device="cuda", backend=on_device)[:, -1000:],
    )


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_under_compute_sanitizer(tool):
    if shutil.which("compute-sanitizer") is None:
        pytest.skip("compute-sanitizer is not on the PATH")
    code = "import sys; sys.path[:0] = ['tests', 'tests/ops']; import test_cuda as t; "
    code += (
        "x = t.data(5, 300); [list(t.everything('cuda', x[:, :n].contiguous(), x[:, :n].contiguous(),"
        " t.levels(5, 'cuda'), "
    )
    code += "t.NOISE)) for n in (3, 17, 300)]"
    command = ["compute-sanitizer", f"--tool={tool}", "--error-exitcode=9", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
