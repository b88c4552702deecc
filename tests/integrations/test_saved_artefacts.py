"""Files that were saved through an adapter load without pyebm, as the package's own objects, and
with pyebm as ours."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
from pathlib import Path

import fresh
import pytest
import torch
from cases import assert_equal, normal
from peers import package

from pyebm import Noise
from pyebm.integrations.edm import EDMLoss

NOISE = Noise(1, step=7)

WITHOUT_PYEBM = """
import json, pickle, sys
class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "pyebm":
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
"""


def without_pyebm(code: str, *paths: Path | str) -> str:
    """Runs the code where pyebm can't be imported; returns the last line that it prints."""
    setup = f"import sys; sys.path[:0] = {[str(path) for path in paths]}\n"
    ran = fresh.python("-c", setup + WITHOUT_PYEBM + code, cwd="/")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip().splitlines()[-1]


def network(x, sigma, labels=None, augment_labels=None):
    del labels, augment_labels
    return x / (1 + sigma)


# --- EDM: a snapshot holds the loss beside the network


@pytest.fixture
def snapshot(tmp_path):
    """A training snapshot of EDM's shape; returns its path, and the loss that it holds."""
    loss = EDMLoss(P_mean=-1.0, noise=NOISE)
    loss(network, normal(4, 3, 8, 8))
    path = tmp_path / "network-snapshot-000001.pkl"
    path.write_bytes(pickle.dumps({"ema": [0.5], "loss_fn": loss}))
    return path, loss


def test_a_snapshot_of_edm_opens_without_pyebm(snapshot, tmp_path):
    """Where EDM's own loss can be imported it is one; elsewhere it says what it was."""
    path, _ = snapshot
    load = f"data = pickle.load(open({str(path)!r}, 'rb')); loss = data['loss_fn']\n"
    record = without_pyebm(load + "print(loss)")
    assert record.startswith("Namespace(P_mean=-1.0")
    assert "pyebm.integrations.edm.EDMLoss" in record
    training = tmp_path / "training"
    training.mkdir()
    (training / "loss.py").write_text(
        "class EDMLoss:\n    def __init__(self, P_mean=-1.2, P_std=1.2, sigma_data=0.5):\n        pass\n"
    )
    said = without_pyebm(load + "print(type(loss).__module__, vars(loss)['P_mean'])", tmp_path)
    assert said == "training.loss -1.0"


def test_a_snapshot_of_edm_goes_on_with_pyebm(snapshot):
    path, loss = snapshot
    x = normal(4, 3, 8, 8)
    loaded = pickle.loads(path.read_bytes())["loss_fn"]
    assert type(loaded) is EDMLoss
    copies = loaded, copy.deepcopy(loaded), copy.copy(loaded)
    want = loss(network, x)
    for one in copies[:2]:
        assert_equal(one(network, x), want)
    assert type(copies[2]) is EDMLoss


class Mine(EDMLoss):
    """A subclass that its base could not replace."""


def test_a_subclass_is_pickled_as_itself():
    loaded = pickle.loads(pickle.dumps(Mine(noise=NOISE)))
    assert type(loaded) is Mine
    assert loaded._draws.source == NOISE


def test_a_pickle_keeps_any_noise():
    for noise in (None, torch.randn_like, Noise(torch.tensor([1, 2]), sample_ids=[0, 0])):
        assert pickle.loads(pickle.dumps(EDMLoss(noise=noise)))._draws.source == noise


# --- the packages' objects


def test_a_pipeline_of_diffusers(tmp_path):
    """A saved pipeline loads as diffusers' own, and takes our scheduler."""
    diffusers = package("diffusers")
    from pyebm.integrations.diffusers import DDPMScheduler, ScoreSdeVeScheduler

    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    made = {
        "ddpm": (diffusers.DDPMPipeline, DDPMScheduler(num_train_timesteps=77)),
        "ve": (diffusers.ScoreSdeVePipeline, ScoreSdeVeScheduler(num_train_timesteps=77)),
    }
    for name, (pipeline, scheduler) in made.items():
        scheduler.noise = NOISE
        saved = pipeline(unet, scheduler)
        saved.scheduler = type(scheduler).from_config(scheduler.config)  # as docs/integrations.md has it
        saved.save_pretrained(tmp_path / name)
        index = json.loads((tmp_path / name / "model_index.json").read_text())
        assert index["scheduler"] == ["diffusers", type(scheduler).__name__]
        stock = pipeline.from_pretrained(tmp_path / name).scheduler
        assert type(stock) is getattr(diffusers, type(scheduler).__name__)
        assert stock.config.num_train_timesteps == 77
        ours = type(scheduler).from_pretrained(tmp_path / name, subfolder="scheduler")
        again = pipeline.from_pretrained(tmp_path / name, scheduler=ours).scheduler
        assert again is ours
        # An older pyebm wrote the name of its module, which loads too.
        index["scheduler"][0] = "pyebm.integrations.diffusers.schedulers"
        (tmp_path / name / "model_index.json").write_text(json.dumps(index))
        assert type(pipeline.from_pretrained(tmp_path / name).scheduler) is type(scheduler)
        assert pipeline.from_pretrained(tmp_path / name, scheduler=ours).scheduler is ours


def diffusers_objects():
    from pyebm.integrations.diffusers import DDPMScheduler, ScoreSdeVeScheduler

    made = {
        "diffusers.schedulers.scheduling_ddpm": DDPMScheduler(num_train_timesteps=77),
        "diffusers.schedulers.scheduling_sde_ve": ScoreSdeVeScheduler(num_train_timesteps=77),
    }
    for scheduler in made.values():
        scheduler.noise = NOISE
        scheduler.set_timesteps(5)
    x = normal(4, 3, 8, 8)
    ddpm = made["diffusers.schedulers.scheduling_ddpm"]
    ddpm.step(x, ddpm.timesteps[0], x)
    assert "_tables" not in vars(copy.deepcopy(ddpm))
    return made


def torchebm_objects():
    from torchebm.core import GaussianModel

    from pyebm.integrations.torchebm import DenoisingScoreMatching, EulerMaruyamaIntegrator

    model = GaussianModel(torch.zeros(2), torch.eye(2))
    return {
        "torchebm.integrators.euler_maruyama": EulerMaruyamaIntegrator(noise=NOISE),
        "torchebm.losses.score_matching": DenoisingScoreMatching(model, noise_scale=0.3, noise=NOISE),
    }


def ebmkit_objects():
    from pyebm.integrations.ebmkit import LangevinDynamics

    return {"ebm.samplers.langevin": LangevinDynamics(step_size=0.1, noise=NOISE)}


def k_diffusion_objects():
    from pyebm.integrations.k_diffusion import Denoiser

    return {"k_diffusion.layers": Denoiser(torch.nn.Linear(2, 2), sigma_data=0.5, weighting="soft-min-snr")}


OBJECTS = {
    "diffusers": diffusers_objects,
    "torchebm": torchebm_objects,
    "ebm": ebmkit_objects,
    "k_diffusion": k_diffusion_objects,
}


@pytest.mark.parametrize("name", OBJECTS)
def test_pickles_of_the_packages_objects(name, monkeypatch):
    package(name)
    pickles = []
    for place, one in OBJECTS[name]().items():
        pickles.append((place, type(one).__name__, pickle.dumps(one)))
        loaded = pickle.loads(pickles[-1][2])
        assert type(loaded) is type(one)
        assert one._draws is None or loaded._draws.source == NOISE
    found = importlib.import_module

    def blocked(module, *args):
        if module.startswith("pyebm"):
            raise ImportError(module)
        return found(module, *args)

    monkeypatch.setattr(importlib, "import_module", blocked)
    for place, kind, pickled in pickles:
        stock = pickle.loads(pickled)
        assert (type(stock).__module__, type(stock).__name__) == (place, kind)
        if name == "diffusers":
            assert stock.config.num_train_timesteps == 77
            assert len(stock.timesteps) == 5
