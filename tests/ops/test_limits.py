"""Steps, streams and ids stay below 2**32: the last one works, and the next is a ValueError that
names it, on every backend."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal

import pyebm
from pyebm import Noise, NoiseCounter, samplers, targets
from pyebm.integrations import edm, ncsnv2
from pyebm.integrations._draws import Draws

LAST = 2**32 - 1
X = Noise(1).randn((3, 4))
KNOWN = {"known": X, "mask": torch.ones(3, 4, dtype=torch.bool)}


def energy(x):
    return 0.5 * x.square().sum(1)


def level_score(x, _level):
    return -x


# For each sampler: how to make it, and the number of streams that it draws from. Samplers with
# a schedule are left out: their schedules end long before the noise's steps do.
SAMPLERS = {
    "Langevin": (lambda backend: samplers.Langevin(torch.neg, 0.1, backend=backend), 1),
    "a target's chain": (lambda backend: samplers.Langevin(targets.Harmonic(), 0.1, backend=backend), 1),
    "MALA": (lambda backend: samplers.MALA(energy, 0.1, backend=backend), 2),
    "HMC": (lambda backend: samplers.HMC(energy, 0.1, 2, backend=backend), 2),
    "HMC jitter": (lambda backend: samplers.HMC(energy, 0.1, 2, jitter=0.1, backend=backend), 3),
    "Underdamped": (lambda backend: samplers.UnderdampedLangevin(torch.neg, 0.1, backend=backend), 2),
    "Annealed": (
        lambda backend: samplers.AnnealedLangevin(level_score, [1.0, 0.5], 0.1, 2, backend=backend),
        1,
    ),
    "Annealed known": (
        lambda backend: samplers.AnnealedLangevin(level_score, [1.0], 0.1, 2, **KNOWN, backend=backend),
        2,
    ),
    "PC": (lambda backend: samplers.PredictorCorrector(level_score, samplers.VE(), 3, backend=backend), 2),
    "PC known": (
        lambda backend: samplers.PredictorCorrector(level_score, samplers.VE(), 3, **KNOWN, backend=backend),
        4,
    ),
}
SEEDS = torch.arange(3)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(("make", "streams"), SAMPLERS.values(), ids=SAMPLERS)
class TestSamplers:
    def test_streams(self, make, streams, backend):
        make(backend)(X, 2, noise=Noise(0, stream=LAST + 1 - streams))
        if streams > 1:
            with pytest.raises(ValueError, match=f"stream must leave room for {streams} streams below 2"):
                make(backend)(X, 2, noise=Noise(0, stream=LAST + 2 - streams))

    def test_steps(self, make, streams, backend):
        del streams
        sampler = make(backend)
        if sampler.length is not None:
            return
        sampler(X, 2, noise=Noise(0, step=LAST - 1))
        for start, options in ((X, {}), (X, {"thin": 1}), (samplers.State(X, Noise(0, step=LAST)), {})):
            noise = {} if isinstance(start, samplers.State) else {"noise": Noise(0, step=LAST)}
            with pytest.raises(
                ValueError, match=r"steps must stay below 2\*\*32, got step=4294967295 and n_steps=[12]"
            ):
                sampler(start, 2 - bool(options) - isinstance(start, samplers.State), **noise, **options)

    def test_ids(self, make, streams, backend):
        del streams
        for seed in (0, SEEDS):
            make(backend)(X, 1, noise=Noise(seed, first_sample=LAST - 2))
            with pytest.raises(
                ValueError, match=r"sample ids must be in \[0, 2\*\*32\), got first_sample=4294967294"
            ):
                make(backend)(X, 1, noise=Noise(seed, first_sample=LAST - 1))


CALLS = {
    "randn": lambda noise, backend: noise.randn((3, 4), backend=backend),
    "rand": lambda noise, backend: noise.rand((3, 4), backend=backend),
    "perturb": lambda noise, backend: pyebm.perturb(X, 0.5, noise, backend=backend),
    "langevin_step": lambda noise, backend: pyebm.langevin_step(X, X, 0.5, noise, backend=backend),
    "dsm_loss": lambda noise, backend: pyebm.dsm_loss(X, 0.5, noise, backend=backend),
    "langevin_chain": lambda noise, backend: pyebm.langevin_chain(
        X, targets.Harmonic(), 1, 0.1, noise, backend=backend
    ),
    "sample": lambda noise, backend: targets.Gaussian(torch.zeros(4)).sample(3, noise, backend=backend),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("seed", [0, SEEDS], ids=["one seed", "seeds"])
def test_ids(call, seed):
    made = [
        call(Noise(seed, first_sample=LAST - 2, step=LAST, stream=LAST), backend)
        for backend in ("cpu", "reference")
    ]
    assert_equal(made[0], made[1])
    for backend in ("cpu", "reference"):
        with pytest.raises(ValueError, match=r"sample ids must be in \[0, 2\*\*32\)"):
            call(Noise(seed, first_sample=LAST - 1), backend)


def test_seeds_and_the_first_sample():
    """Seeds of each sample do not replace the ids, so the ids are still checked."""
    noise = Noise(SEEDS, first_sample=LAST - 1)
    with pytest.raises(ValueError, match="first_sample=4294967294 and 3 samples"):
        noise.randn((3, 2))
    assert_equal(Noise(SEEDS[:2], first_sample=LAST - 1).randn((2, 2)), _two(LAST - 1))


def _two(first):
    rows = [Noise(int(SEEDS[b]), first_sample=first + b).randn((1, 2)) for b in range(2)]
    return torch.cat(rows)


def test_chains():
    pyebm.langevin_chain(X, targets.Harmonic(), 2, 0.1, Noise(0, step=LAST - 1))
    with pytest.raises(ValueError, match=r"steps must stay below 2\*\*32, got step=4294967295 and n_steps=2"):
        pyebm.langevin_chain(X, targets.Harmonic(), 2, 0.1, Noise(0, step=LAST))


def test_counters():
    counter = NoiseCounter(Noise(0, step=LAST - 1))
    assert counter.advance_().step == LAST
    with pytest.raises(ValueError, match=r"steps must stay below 2\*\*32"):
        counter.advance_()
    assert counter.step == LAST


def test_draws():
    draws = Draws(Noise(0, step=LAST - 2))
    assert [draws(X).step for _ in range(3)] == [LAST - 2, LAST - 1, LAST]
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"noise: steps must stay below 2\*\*32, got step=4294967293 and 3 draws before"
        ):
            draws(X)


def test_adapters():
    with pytest.raises(ValueError, match=r"steps must stay below 2\*\*32"):
        ncsnv2.anneal_Langevin_dynamics(X, level_score, [1.0], 3, noise=Noise(0, step=LAST - 1))
    with pytest.raises(ValueError, match=r"stream must be in \[0, 2\*\*32\)"):
        edm.EDMLoss(noise=Noise(0, stream=LAST))(lambda x, *_, **__: x, X.reshape(3, 1, 2, 2))
    for seeds in ([1.5, 2.5], ["a"], torch.ones(2)):
        with pytest.raises(TypeError, match="seeds must be"):
            edm.StackedRandomGenerator("cpu", seeds)
    large = edm.StackedRandomGenerator("cpu", [2**64 - 1, 3])
    assert_equal(large.randn([2, 2])[:1], Noise(2**32 - 1).randn((1, 2)))  # the lowest 32 bits, as in EDM
