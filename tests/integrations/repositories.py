"""Small programs of our own with the call sites, names and import lines of the repositories that
docs/integrations.md has diffs for. Keys are the sections of that document."""

from __future__ import annotations

TEXT_TO_IMAGE = """\
import torch
import torch.nn.functional as F
from diffusers.training_utils import compute_snr


def train(args, accelerator, unet, noise_scheduler, batches, global_step=0):
    losses = []
    for epoch in range(1):
        for step, latents in enumerate(batches):
            with accelerator.accumulate(unet):
                noise = torch.randn_like(latents)
                timesteps = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(latents),))
                if args.input_perturbation:
                    raise NotImplementedError
                else:
                    noisy_latents = noise_scheduler.add_noise(latents, noise, timesteps)
                if args.prediction_type is not None:
                    noise_scheduler.register_to_config(prediction_type=args.prediction_type)
                if noise_scheduler.config.prediction_type == "epsilon":
                    target = noise
                else:
                    target = noise_scheduler.get_velocity(latents, noise, timesteps)
                model_pred = unet(noisy_latents)
                if args.snr_gamma is None:
                    loss = F.mse_loss(model_pred.float(), target.float(), reduction="mean")
                else:
                    snr = compute_snr(noise_scheduler, timesteps)
                    weights = snr.clamp(max=args.snr_gamma) / snr
                    loss = F.mse_loss(model_pred.float(), target.float(), reduction="none")
                    loss = (loss.flatten(1).mean(1) * weights).mean()
                losses.append(loss)
            global_step += 1
    return losses
"""

SAMPLE = """\
from diffusers import DDPMPipeline

pipe = DDPMPipeline.from_pretrained(path)
pipe.set_progress_bar_config(disable=True)
images = pipe(batch_size=2, num_inference_steps=3, output_type="np").images
"""

K_TRAIN = """\
import torch

import k_diffusion as K


def main(args, accelerator, config, inner_model, inner_model_ema, batches, step=0):
    sample_density = K.config.make_sample_density(config["model"])
    model = K.config.make_denoiser_wrapper(config)(inner_model)
    model_ema = K.config.make_denoiser_wrapper(config)(inner_model_ema)
    values = []
    for reals in batches:
                with accelerator.accumulate(model):
                    noise = torch.randn_like(reals)
                    sigma = sample_density([reals.shape[0]])
                    losses = model.loss(reals, noise, sigma)
                    values.append(losses.mean())
                step += 1
    return model, model_ema, values
"""

TORCHEBM_TRAIN = """\
from torchebm.core import DoubleWellModel
from torchebm.losses import DenoisingScoreMatching
from torchebm.samplers import LangevinDynamics
import torch

model = DoubleWellModel()
x = torch.zeros(8, 2)
sampler = LangevinDynamics(model, step_size=0.01)
loss_fn = DenoisingScoreMatching(model, noise_scale=0.1)
states, loss = sampler.sample(x, n_steps=3), loss_fn(x)
"""

EBMKIT_CHAINS = """\
from ebm import LangevinDynamics
import torch
sampler = LangevinDynamics(step_size=0.01, steps=100)
states = sampler.sample(lambda x: 0.5 * x.square().sum(1), torch.zeros(8, 2))
"""

NCSN_RUNNER = """\
import numpy as np
import torch
from losses.dsm import anneal_dsm_score_estimation

from models import (anneal_Langevin_dynamics,
                    anneal_Langevin_dynamics_inpainting,
                    anneal_Langevin_dynamics_interpolation)
from models import get_sigmas


class NCSNRunner():
    def __init__(self, args, config):
        self.args = args
        self.config = config

    def train(self, score, batches, step=0):
        sigmas, hook, seen = get_sigmas(self.config), None, []
        test_score, test_hook = score, lambda loss, labels: seen.append(loss)
        for X in batches:
            step += 1
            if True:
                loss = anneal_dsm_score_estimation(score, X, sigmas, None,
                                                   self.config.training.anneal_power,
                                                   hook)
                test_X = X
                if True:
                    with torch.no_grad():
                        test_dsm_loss = anneal_dsm_score_estimation(test_score, test_X, sigmas, None,
                                                                    self.config.training.anneal_power,
                                                                    hook=test_hook)
        return loss, test_dsm_loss, seen

    def sample(self, score, init_samples, refer_images):
        sigmas = get_sigmas(self.config).cpu().numpy()
        all_samples = anneal_Langevin_dynamics(init_samples, score, sigmas, 2, final_only=True, verbose=True)
        width = len(refer_images)
        x = init_samples[:width, None].clone()
        size = init_samples.shape[-1]
        completed = anneal_Langevin_dynamics_inpainting(x, refer_images, score, sigmas, size, 2)
        return all_samples, completed, anneal_Langevin_dynamics_interpolation
"""

NCSN_MODELS = """\
import torch


def get_sigmas(config):
    return torch.logspace(0, -1, 3)


def anneal_Langevin_dynamics(*args):
    raise AssertionError("the diff replaces it")


anneal_Langevin_dynamics_inpainting = anneal_Langevin_dynamics


def anneal_Langevin_dynamics_interpolation():
    return "theirs"
"""

SDE_LOSSES = """\
import torch
from sde_lib import VESDE, VPSDE


def get_sde_loss_fn(*args, **kwargs):
    raise AssertionError("the diff replaces it")


get_smld_loss_fn = get_ddpm_loss_fn = get_sde_loss_fn


def get_step_fn(sde, train, optimize_fn=None, reduce_mean=False, continuous=True, likelihood_weighting=False):
  if continuous:
    loss_fn = get_sde_loss_fn(sde, train, reduce_mean=reduce_mean,
                              continuous=True, likelihood_weighting=likelihood_weighting)
  else:
    if isinstance(sde, VESDE):
      loss_fn = get_smld_loss_fn(sde, train, reduce_mean=reduce_mean)
    elif isinstance(sde, VPSDE):
      loss_fn = get_ddpm_loss_fn(sde, train, reduce_mean=reduce_mean)

  def step_fn(state, batch):
    loss = loss_fn(state['model'], batch)
    state['step'] += train
    return loss

  return step_fn
"""

SDE_RUN_LIB = """\
import losses
import sampling


def train(config, sde, state, batches):
  initial_step = int(state['step'])
  optimize_fn, reduce_mean = None, True
  continuous, likelihood_weighting = config.continuous, False
  train_step_fn = losses.get_step_fn(sde, train=True, optimize_fn=optimize_fn,
                                     reduce_mean=reduce_mean, continuous=continuous,
                                     likelihood_weighting=likelihood_weighting)
  eval_step_fn = losses.get_step_fn(sde, train=False, optimize_fn=optimize_fn,
                                    reduce_mean=reduce_mean, continuous=continuous,
                                    likelihood_weighting=likelihood_weighting)
  values = [(train_step_fn(state, batch), eval_step_fn(state, batch)) for batch in batches]
  return values, sampling.sampler(config, sde)
"""

SDE_SAMPLING = """\
import torch

_CORRECTORS, _PREDICTORS = {}, {}


def sampler(config, sde):
  x = torch.zeros(2, 3, 8, 8)
  for t in (0.9, 0.5, 0.1):
    vec_t = torch.ones(2) * t
    corrector_obj = _CORRECTORS[config.corrector](sde, lambda x, t: -x, 0.1, 1)
    x, x_mean = corrector_obj.update_fn(x + 1, vec_t)
    predictor_obj = _PREDICTORS[config.predictor](sde, lambda x, t: -x, False)
    x, x_mean = predictor_obj.update_fn(x, vec_t)
  return x
"""

EDM_TRAIN = """\
import json
import dnnlib
import torch


def main(opts):
    c = dnnlib.EasyDict(loss_kwargs=dnnlib.EasyDict())
    if True:
        assert opts.precond == 'edm'
        c.loss_kwargs.class_name = 'training.loss.EDMLoss'
    c.seed = opts.seed
    if opts.resume is not None:
        c.resume_kimg = int(opts.resume)
        c.resume_state_dump = opts.resume
    json.dumps(c, indent=2)
    return dnnlib.util.construct_class_by_name(**c.loss_kwargs)
"""

EDM_GENERATE = """\
import torch
import dnnlib
from torch_utils import distributed as dist


class StackedRandomGenerator:
    pass


def main(net, batch_seeds, device):
    if True:
        rnd = StackedRandomGenerator(device, batch_seeds)
        latents = rnd.randn([len(batch_seeds), 1, 4, 4], device=device)
        class_labels = torch.eye(10)[rnd.randint(10, size=[len(batch_seeds)], device=device)]
        return net(latents + rnd.randn_like(latents), class_labels)
"""

DNNLIB = """\
import importlib
from types import SimpleNamespace


class EasyDict(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


def construct_class_by_name(class_name, **kwargs):
    module, _, name = class_name.rpartition(".")
    return getattr(importlib.import_module(module), name)(**kwargs)


util = SimpleNamespace(construct_class_by_name=construct_class_by_name)
"""

FILES = {
    "diffusers: training": {"examples/text_to_image/train_text_to_image.py": TEXT_TO_IMAGE},
    "diffusers: sampling": {"sample.py": SAMPLE},
    "k-diffusion": {"train.py": K_TRAIN},
    "torchebm": {"train.py": TORCHEBM_TRAIN},
    "ebmkit": {"chains.py": EBMKIT_CHAINS},
    "ncsnv2": {
        "runners/ncsn_runner.py": NCSN_RUNNER,
        "models/__init__.py": NCSN_MODELS,
        "losses/dsm.py": "anneal_dsm_score_estimation = None\n",
    },
    "score_sde": {
        "losses.py": SDE_LOSSES,
        "run_lib.py": SDE_RUN_LIB,
        "sampling.py": SDE_SAMPLING,
        "sde_lib.py": "from sdes import VE as VESDE, VP as VPSDE\n",
    },
    "EDM": {
        "train.py": EDM_TRAIN,
        "generate.py": EDM_GENERATE,
        "dnnlib.py": DNNLIB,
        "torch_utils/distributed.py": "",
    },
}
