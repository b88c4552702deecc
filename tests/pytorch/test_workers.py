"""Workers of a data loader, forked and spawned, and threads give the numbers of one process."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases import assert_equal, normal
from torch.utils.data import DataLoader, Dataset

import pyebm
from pyebm import Noise
from pyebm.samplers import HMC, MALA, Langevin

TARGET = pyebm.targets.DoubleWell()
SEED = 5
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, where a test imported it


class Perturbed(Dataset):
    """A worker perturbs each item with the noise of its number in the data set, and adds the
    target's score."""

    def __init__(self, x, noise):
        self.x, self.noise, self.target = x, noise, TARGET

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        noisy = pyebm.perturb(self.x[i : i + 1], 0.5, self.noise.shard(first_sample=i))[0]
        return noisy, self.target.score(noisy[None])[0]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_data_loader(start):
    """A loader may fork even after kernels have run in this process, because its workers use one
    thread."""
    x, noise = normal(12, 6), Noise(SEED)
    want = pyebm.perturb(x, 0.5, noise)
    pyebm.perturb(normal(4000, 500), 0.5, noise)  # uses threads, where there are some
    loader = DataLoader(Perturbed(x, noise), batch_size=4, num_workers=2, multiprocessing_context=start)
    noisy, scores = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert_equal(noisy, want)
    assert_equal(scores, TARGET.score(want))


def everything():
    """Calls some of every kind; they give the same numbers wherever they run."""
    x, noise = normal(64, 2), Noise(SEED)
    score = TARGET.score(x)
    return [
        pyebm.perturb(x, 0.5, noise),
        pyebm.dsm_loss(score, 0.5, noise),
        pyebm.langevin_step(x, score, 0.01, noise),
        pyebm.langevin_chain(x, TARGET, 5, 0.01, noise),
        Langevin(torch.neg, 0.1)(x, 5, noise=noise),
        MALA(TARGET, 0.01)(x, 5, noise=noise),
        HMC(TARGET, 0.05, 3)(x, 5, noise=noise),
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_with_one_thread():
    """A process may fork after kernels have run here if the child uses one thread. With more
    threads the child waits for ever, in torch's own operations as in ours."""
    want = everything()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        with os.fdopen(write, "wb") as stream:
            pickle.dump([value.numpy() for value in everything()], stream)
        os._exit(0)
    os.close(write)
    timer = threading.Timer(60, os.kill, (child, signal.SIGKILL))
    timer.start()
    with os.fdopen(read, "rb") as stream:
        got = pickle.load(stream)
    timer.cancel()
    assert os.waitpid(child, 0)[1] == 0
    for one, other in zip(got, want, strict=True):
        assert_equal(torch.from_numpy(one), other)


def test_threads():
    """Threads share targets, samplers and names; each gets the numbers that it gets alone."""
    want = everything()
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: everything(), range(12)):
            for one, other in zip(got, want, strict=True):
                assert_equal(one, other)


def test_a_sampler_is_shared_by_threads():
    """Each run has a state of its own: one sampler may run in many threads at once, and be
    called again from a callback."""
    sampler = Langevin(lambda x: -x, 0.1)
    starts = [normal(32, 2, seed=k) for k in range(8)]
    want = [sampler(x, 50, noise=Noise(k)) for k, x in enumerate(starts)]
    inner = []

    def callback(k, _x, _info):
        time.sleep(0)
        if k == 25:
            inner.append(sampler(starts[0], 50, noise=Noise(0)))

    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(sampler, x, 50, noise=Noise(k), callback=callback) for k, x in enumerate(starts)]
        for run, whole in zip(runs, want, strict=True):
            assert_equal(run.result(), whole)
    assert len(inner) == 8
    for one in inner:
        assert_equal(one, want[0])


def test_gradients_in_threads():
    """Backward runs in any thread."""
    x = normal(64, 2, grad=True)
    want = torch.autograd.grad(pyebm.dsm_loss(x, 0.5, Noise(SEED)), x)[0]

    def gradient(_):
        leaf = x.detach().clone().requires_grad_()
        pyebm.dsm_loss(leaf, 0.5, Noise(SEED)).backward()
        return leaf.grad

    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(gradient, range(16)):
            assert_equal(got, want)
