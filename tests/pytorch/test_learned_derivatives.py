"""The derivatives by the coefficients, which a caller may learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import vmap

import pyebm

NOISE = pyebm.Noise(3, first_sample=5, step=2)
SHAPE = (3, 2)
TARGETS = {
    "double_well": pyebm.targets.DoubleWell(),
    "gaussian": pyebm.targets.Gaussian(torch.tensor([0.5, -1.0]), 2.0),
    "full": pyebm.targets.Gaussian(covariance=torch.tensor([[1.0, 0.5], [0.5, 2.0]])),
    "mixture": pyebm.targets.GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), 0.7),
    "diagonal": pyebm.targets.GaussianMixture(
        torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.tensor([[0.7, 1.0], [0.5, 0.8]])
    ),
    "polynomial": pyebm.targets.Polynomial([0.0, 0.3, -1.0, 0.0, 0.25]),
    "rastrigin": pyebm.targets.Rastrigin(),
    "rosenbrock": pyebm.targets.Rosenbrock(),
    "ackley": pyebm.targets.Ackley(),
    "funnel": pyebm.targets.Funnel(),
}


def samples(dtype: torch.dtype = torch.float64) -> Tensor:
    return pyebm.Noise(11).randn(SHAPE, dtype=dtype) * 0.7 + 0.1


LEARNED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = {
    "perturb's sigma": (lambda x, c: pyebm.perturb(x, c, NOISE), torch.tensor([0.5, 0.1, 2.0])),
    "perturb's alpha": (lambda x, c: pyebm.perturb(x, 0.5, NOISE, alpha=c), torch.tensor([0.5, 0.1, 2.0])),
    "perturb's sigma, one": (lambda x, c: pyebm.perturb(x, c, NOISE), torch.tensor(0.5)),
    "perturb's sigma, each": (lambda x, c: pyebm.perturb(x, c, NOISE), torch.full(SHAPE, 0.5)),
    "dsm_loss's sigma": (lambda x, c: pyebm.dsm_loss(x, c, NOISE), torch.tensor([0.5, 0.1, 2.0])),
    "dsm_loss's weighted sigma": (
        lambda x, c: pyebm.dsm_loss(x, c, NOISE, weight="sigma2"),
        torch.tensor([0.5, 0.1, 2.0]),
    ),
    "dsm_loss's weight": (
        lambda x, c: pyebm.dsm_loss(x, 0.5, NOISE, weight=c),
        torch.tensor([0.5, 0.1, 2.0]),
    ),
    "dsm_loss's z": (lambda x, c: pyebm.dsm_loss(x, 0.5, c), torch.ones(SHAPE)),
    "kappa": (lambda x, c: pyebm.denoising_loss(x, NOISE, kappa=c), torch.tensor([0.5, 0.1, 2.0])),
    "lam": (lambda x, c: pyebm.denoising_loss(x, NOISE, lam=c), torch.tensor([0.5, 0.1, 2.0])),
    "mu": (
        lambda x, c: pyebm.denoising_loss(x, NOISE, mu=c, x0=torch.ones_like(x)),
        torch.tensor([0.5, 0.1, 2.0]),
    ),
    "x0": (lambda x, c: pyebm.denoising_loss(x, NOISE, mu=0.3, x0=c), torch.ones(SHAPE)),
    "weight, each": (lambda x, c: pyebm.denoising_loss(x, NOISE, weight=c), torch.full(SHAPE, 0.5)),
    "step_size": (lambda x, c: pyebm.langevin_step(x, -x, c, NOISE), torch.tensor([0.5, 0.1, 2.0])),
    "temperature": (
        lambda x, c: pyebm.langevin_step(x, -x, 0.1, NOISE, temperature=c),
        torch.tensor([0.5, 0.1, 2.0]),
    ),
    "step_size at T = 0": (
        lambda x, c: pyebm.langevin_step(x, -x, c, NOISE, temperature=0.0),
        torch.tensor([0.5, 0.1, 2.0]),
    ),
    "a": (lambda x, c: pyebm.affine_step(x, -x, c, 0.1, 0.2, NOISE), torch.tensor([0.5, 0.1, 2.0])),
    "c": (lambda x, c: pyebm.affine_step(x, -x, 1.0, 0.1, c, NOISE), torch.tensor([0.5, 0.1, 2.0])),
    "chain's step_size": (
        lambda x, c: pyebm.langevin_chain(x, TARGETS["double_well"], 2, c, NOISE),
        torch.tensor([[0.05], [0.01], [0.02]]),
    ),
    "chain's schedule": (
        lambda x, c: pyebm.langevin_chain(x, TARGETS["double_well"], 2, c, NOISE),
        torch.tensor([0.05, 0.01]),
    ),
}


@pytest.mark.parametrize(("call", "value"), LEARNED.values(), ids=LEARNED)
class TestLearned:
    def test_gradcheck(self, call, value):
        inputs = samples().requires_grad_(), value.double().requires_grad_()
        assert gradcheck(call, inputs, check_forward_ad=True)
        assert gradgradcheck(call, inputs)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_value_does_not_change(self, call, value, dtype):
        x, value = samples(dtype), value.to(dtype)
        assert torch.equal(call(x, value.clone().requires_grad_()).detach(), call(x, value))

    def test_vmap_over_it_is_the_loop(self, call, value):
        x, values = samples(), torch.stack([value.double(), 0.5 * value.double()])
        made = vmap(lambda value: call(x, value))(values)
        assert torch.equal(made, torch.stack([call(x, each) for each in values]))
