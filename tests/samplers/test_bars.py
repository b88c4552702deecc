"""A bar shows how far a run is, also where a kernel takes many steps at once; the bits stay."""

from __future__ import annotations

import pytest
import torch

import pyebm
from pyebm import _bar

X = pyebm.Noise(3).randn((6, 2))
WELL = pyebm.targets.DoubleWell()


@pytest.fixture
def ticks(monkeypatch):
    """The steps by which the bars of a test move."""
    rich = pytest.importorskip("rich.progress")
    moved = []
    monkeypatch.setattr(rich.Progress, "advance", lambda _self, _task, count: moved.append(count))
    return moved


@pytest.mark.parametrize("options", [{}, {"thin": 70}, {"clamp": (X - 2, X + 2)}, {"return_diverged": True}])
def test_a_chain_moves_its_bar_at_every_hundredth(options, ticks):
    def run(**more):
        made = pyebm.langevin_chain(X, WELL, 1000, 0.01, pyebm.Noise(0), **options, **more)
        return made if isinstance(made, tuple) else (made,)

    assert all(map(torch.equal, run(progress=True), run()))
    assert sum(ticks) == 1000
    assert len(ticks) >= 100


def test_a_sampler_moves_its_bar_at_every_hundredth(ticks):
    for sampler in (pyebm.samplers.Langevin(WELL, 0.01), pyebm.samplers.MALA(WELL, 0.01)):
        ticks.clear()
        assert torch.equal(sampler(X, 1000, noise=1, progress=True), sampler(X, 1000, noise=1))
        assert sum(ticks) == 1000
        assert len(ticks) >= 100


def test_a_bar_without_rich_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rich.progress", None)
    with pytest.raises(ImportError, match="pip install rich"), _bar.bar("run", 3, wanted=True):
        pass
