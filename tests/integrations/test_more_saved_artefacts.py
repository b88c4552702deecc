"""The pickles of the newer classes: ours with pyebm, the package's own without."""

from __future__ import annotations

import importlib
import pickle

import pytest
import torch
from peers import package

from pyebm import Noise

NOISE = Noise(1, step=7)


def diffusers_objects():
    from pyebm.integrations import diffusers as ours

    made = [
        getattr(ours, name)(num_train_timesteps=77)
        for name in (
            "DDIMScheduler",
            "EulerDiscreteScheduler",
            "EulerAncestralDiscreteScheduler",
            "FlowMatchEulerDiscreteScheduler",
            "DPMSolverSDEScheduler",
        )
    ]
    made += [ours.LCMScheduler(), ours.TCDScheduler()]
    for scheduler in made:
        scheduler.noise = NOISE
        scheduler.set_timesteps(5)
    return made


def k_diffusion_objects():
    from pyebm.integrations import k_diffusion as ours

    network, abar = torch.nn.Linear(2, 2), torch.linspace(0.99, 0.1, 10)
    return [
        ours.DenoiserWithVariance(network),
        ours.SimpleLossDenoiser(network),
        ours.VDenoiser(network),
        ours.DiscreteEpsDDPMDenoiser(network, abar, quantize=True),
        ours.DiscreteVDDPMDenoiser(network, abar, quantize=True),
    ]


def torchebm_objects():
    from torchebm.core import GaussianModel

    from pyebm.integrations import torchebm as ours

    model = GaussianModel(torch.zeros(2), torch.eye(2))
    return [
        ours.ScoreMatching(model, noise=NOISE),
        ours.SlicedScoreMatching(model, noise=NOISE),
        ours.HamiltonianMonteCarlo(model, noise=NOISE),
    ]


def ebmkit_objects():
    from ebm.diffusion import VPSchedule

    from pyebm.integrations import ebmkit as ours

    return [
        ours.MALA(noise=NOISE),
        ours.HMC(noise=NOISE),
        ours.UnderdampedLangevin(noise=NOISE),
        ours.AnnealedLangevinDynamics(torch.tensor([1.0, 0.1]), noise=NOISE),
        ours.DDPMAncestralSampler(VPSchedule(8), noise=NOISE),
    ]


OBJECTS = {
    "diffusers": diffusers_objects,
    "k_diffusion": k_diffusion_objects,
    "torchebm": torchebm_objects,
    "ebm": ebmkit_objects,
}


@pytest.mark.parametrize("name", OBJECTS)
def test_pickles(name, monkeypatch):
    package(name)
    objects = OBJECTS[name]()
    pickles = [pickle.dumps(one) for one in objects]
    for one, pickled in zip(objects, pickles, strict=True):
        loaded = pickle.loads(pickled)
        assert type(loaded) is type(one)
        assert one._draws is None or loaded._draws.source == NOISE
    found = importlib.import_module

    def blocked(module, *args):
        if module.startswith("pyebm"):
            raise ImportError(module)
        return found(module, *args)

    monkeypatch.setattr(importlib, "import_module", blocked)
    for one, pickled in zip(objects, pickles, strict=True):
        stock = pickle.loads(pickled)
        assert type(stock).__module__.partition(".")[0] == name
        assert isinstance(one, type(stock))
        assert type(stock).__name__ == type(one).__name__
