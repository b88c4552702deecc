"""Threads take turns as they are free; the bits never depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from cases import assert_equal
from torch import Tensor, nn

import pyebm
from pyebm import Noise, _ops
from pyebm._memory import copy_of, empty_like

NOISE = Noise(7)


@pytest.fixture(autouse=True)
def call_other_threads() -> Iterator[None]:
    """On a busy machine a call leaves the other threads alone, and nothing here would be tested."""
    before, always_call = torch.get_num_threads(), _ops.library().pyebm_always_call_threads
    always_call(True)
    yield
    always_call(False)
    torch.set_num_threads(before)


def _network_loss() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 1))
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    energy = pyebm.targets.MLPEnergy(net)
    loss = pyebm.denoising_score_matching(energy, NOISE.randn((3000, 3)), 0.3, NOISE)
    return torch.cat(
        [loss.reshape(1), *(p.reshape(-1) for p in torch.autograd.grad(loss, net[0].parameters()))]
    )


CALLS: dict[str, Callable[[], Tensor]] = {
    "noise": lambda: NOISE.randn((300, 1001)),
    "narrow noise": lambda: NOISE.randn((100_001, 1)),
    "perturb": lambda: pyebm.perturb(NOISE.at(step=1).randn((70, 3, 33, 33)), 0.5, NOISE),
    "losses": lambda: pyebm.dsm_loss(NOISE.at(step=1).randn((70_003, 3)), 0.5, NOISE, reduction="sample"),
    "chain": lambda: pyebm.langevin_chain(
        NOISE.at(step=1).randn((5003, 3)), pyebm.targets.DoubleWell(), 30, 0.01, NOISE.at(step=2)
    ),
    "mixture": lambda: pyebm.targets.GaussianMixture(NOISE.at(step=1).randn((200, 3)), 0.5).score(
        NOISE.randn((1003, 3))
    ),
    "network": _network_loss,
}


@pytest.mark.parametrize("name", CALLS)
def test_turns(name):
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        results.append(CALLS[name]())
    assert results[0].isfinite().all()
    for result in results[1:]:
        assert_equal((result,), (results[0],))


@pytest.mark.parametrize("shape", [(5, 3), (300, 200), (2100, 1000)], ids=str)
def test_a_copy_is_a_clone(shape):
    x = NOISE.randn(shape)
    for given in (x, x.t(), x[::2], x.double(), nn.Parameter(x), torch._neg_view(x)):
        made = copy_of(given)
        assert_equal((made,), (given.detach(),))
        assert made.stride() == given.clone().stride()
        assert made.data_ptr() != given.data_ptr()


def test_large_results_ask_for_large_pages(monkeypatch):
    asked = []
    monkeypatch.setattr("pyebm._memory._advise", lambda: lambda *args: asked.append(args))
    x = torch.empty(1 << 23)
    made = empty_like(x)
    empty_like(x[: (1 << 20) - 1])
    ((begin, size, _),) = asked
    assert made.data_ptr() <= begin < begin + size <= made.data_ptr() + made.nbytes
    assert begin % (1 << 21) == size % (1 << 21) == 0
    assert size > made.nbytes - (1 << 22)
