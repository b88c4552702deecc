"""Memory is measured by torch's allocator, and also by the process, since the kernels could
allocate beside torch."""

from __future__ import annotations

import textwrap
from pathlib import Path

import fresh
import pytest
import torch
from cases import levels, normal
from torch.profiler import ProfilerActivity, profile

import pyebm
from pyebm import Noise

SHAPE = (64, 1000)


def small(backend: str) -> int:
    """Bytes for sums and coefficients, (B,); for the coefficients the CUDA kernels keep a table
    of some 56 bytes a sample."""
    return (8 if backend == "cpu" else 64) * SHAPE[0] + (256 if backend == "cpu" else 512)


def peak(call) -> int:
    """The most bytes that torch's allocator holds at once for this call."""
    call()  # the set-up of the first call is not part of the operation
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    assert events, "the profiler saw no allocation"
    del result
    return most


def tensors(dtype):
    x = normal(*SHAPE, dtype=dtype)
    return x, normal(*SHAPE, dtype=dtype, seed=1), levels(SHAPE[0]), x.numel() * x.element_size()


def test_the_measure_sees_what_eager_code_allocates():
    """The same loss in plain PyTorch takes several tensors: if the measure missed them, it would
    prove nothing."""
    x, z, sigma, size = tensors(torch.float32)
    x.requires_grad_()
    assert (
        peak(lambda: torch.autograd.grad((0.5 * (x + z / sigma[:, None]) ** 2).sum(1).mean(), x)) > 2.9 * size
    )


def test_perturb_is_one_tensor(backend, dtype):
    x, _, sigma, size = tensors(dtype)
    assert peak(lambda: pyebm.perturb(x, sigma, Noise(0), backend=backend)) <= size + small(backend)
    x.requires_grad_()
    assert peak(lambda: pyebm.perturb(x, sigma, Noise(0), backend=backend)) <= size + small(backend)


def test_steps_are_the_result(backend, dtype):
    x, score, eta, size = tensors(dtype)
    assert peak(lambda: pyebm.langevin_step(x, score, eta, Noise(0), backend=backend)) <= size + small(
        backend
    )
    assert peak(
        lambda: pyebm.affine_step(x, score, 1.0, eta, 0.1, Noise(0), backend=backend)
    ) <= size + small(backend)
    assert peak(
        lambda: (pyebm.langevin_step_(x, score, eta, Noise(0), backend=backend), torch.empty(1))
    ) <= small(backend)


@pytest.mark.parametrize("reduction", ["sample", "mean", "batchmean"])
@pytest.mark.parametrize("own", [False, True], ids=["noise", "own-noise"])
def test_a_loss_with_its_gradient_is_one_tensor(backend, dtype, reduction, own):
    pred, z, sigma, size = tensors(dtype)
    pred.requires_grad_()

    def loss():
        return pyebm.dsm_loss(pred, sigma, z if own else Noise(0), reduction=reduction, backend=backend).sum()

    assert peak(lambda: torch.autograd.grad(3 * loss(), pred)) <= size + 2 * small(backend)
    with torch.no_grad():
        assert peak(loss) <= 2 * small(backend)


def test_an_elementwise_loss_is_the_loss_and_its_gradient(backend):
    pred, _, sigma, size = tensors(torch.float32)
    pred.requires_grad_()
    above = normal(*SHAPE, seed=2)

    def gradient():
        return torch.autograd.grad(
            pyebm.dsm_loss(pred, sigma, Noise(0), reduction="none", backend=backend), pred, above
        )

    assert peak(gradient) <= 2 * size + small(backend)


PROCESS = """
    import sys, torch, pyebm
    from pathlib import Path

    def kilobytes(field):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field))

    def run(pred):
        noise = pyebm.Noise(0)
        if sys.argv[1] == "perturb":
            return pyebm.perturb(pred, 0.5, noise)
        return torch.autograd.grad(pyebm.dsm_loss(pred, 0.5, noise), pred)

    run(torch.ones(64, 3000, requires_grad=True))  # threads and libraries are up
    pred = torch.ones(4096, 4096, requires_grad=True)
    before = kilobytes("VmRSS")
    result = run(pred)
    print(kilobytes("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("op", ["perturb", "loss"])
def test_the_process_grows_by_one_tensor(op):
    grown = int(fresh.python("-c", textwrap.dedent(PROCESS), op).stdout)
    assert 0.95 < grown / (4096 * 4096 * 4 / 1024) < 1.1


MIXTURE = """
    import sys, torch, pyebm
    from pathlib import Path

    def kilobytes(field):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field))

    count, dim, batch = (int(word) for word in sys.argv[1:])
    target = pyebm.targets.GaussianMixture.from_data(torch.randn(count, dim), 0.5)
    x = torch.randn(batch, dim)

    def run(x):
        return target.score(x), pyebm.langevin_chain(x, target, 1, 0.01, pyebm.Noise(0))

    run(x[:64])  # threads and libraries are up, the parameters packed
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, of packing them, is forgotten
    before = kilobytes("VmRSS")
    result = run(x)
    print(kilobytes("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("count", "dim", "batch"), [(100_000, 8, 2048), (10_000, 3072, 48)])
def test_a_mixture_takes_no_matrix_of_samples_and_components(count, dim, batch):
    """Beside its two results, the call takes only one tile per thread: some 40 bytes for each
    element of the tile's 16 samples."""
    grown = 1024 * int(fresh.python("-c", textwrap.dedent(MIXTURE), count, dim, batch).stdout)
    tiles = torch.get_num_threads() * 16 * dim * 40
    assert grown < 2 * 4 * batch * dim + tiles + 4 * 2**20
    assert 4 * count * dim > 3 * 2**20  # a copy of the means would show, and so would the matrix
    assert 4 * count * batch > 1.8 * 10**6


def test_targets_scores_are_the_result(dtype):
    x = normal(64, 100, dtype=dtype)
    target = pyebm.targets.GaussianMixture(normal(3000, 100), 0.7)
    assert peak(lambda: target.score(x)) <= x.numel() * x.element_size() + small("cpu")
    assert peak(
        lambda: pyebm.langevin_chain(x, target, 3, 0.01, Noise(0))
    ) <= x.numel() * x.element_size() + small("cpu")
