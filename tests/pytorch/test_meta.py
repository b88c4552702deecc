"""Meta and fake tensors go through every call: it returns the real call's shapes, dtypes and
devices, and computes nothing."""

# ruff: noqa: ARG005 -- every call of the table is given the same three

import pytest
import torch
from torch._subclasses import FakeTensorMode

import pyebm
from pyebm import Noise, samplers

NOISE = Noise(3, step=1)
LISTED = Noise(torch.tensor([4, 0, 2, 9]), sample_ids=[3, 2, 1, 0])


def _grad(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def _energy(x):
    return x.square().flatten(1).sum(1)


CALLS = {
    "randn": lambda x, r, t: NOISE.randn(x.shape, dtype=x.dtype, device=x.device),
    "rand": lambda x, r, t: LISTED.rand(x.shape, dtype=x.dtype, device=x.device),
    "perturb": lambda x, r, t: (pyebm.perturb(x, 0.5, NOISE), pyebm.perturb(x, r, LISTED, alpha=r)),
    "perturb grad": lambda x, r, t: _grad(lambda x: pyebm.perturb(x, r, NOISE, alpha=r), x),
    "dsm_loss": lambda x, r, t: tuple(
        pyebm.dsm_loss(x, r, NOISE, reduction=reduction)
        for reduction in ("none", "sample", "sum", "mean", "batchmean")
    ),
    "dsm_loss grad": lambda x, r, t: _grad(lambda x: pyebm.dsm_loss(x, 0.5, LISTED), x),
    "denoising_loss": lambda x, r, t: pyebm.denoising_loss(x, NOISE, x0=x, kappa=r, mu=0.5, weight=r),
    "langevin_step": lambda x, r, t: pyebm.langevin_step(
        x, -x, r, NOISE, clamp=(-1.0, 1.0), mask=x > 0, return_mean=True
    ),
    "langevin_step grad": lambda x, r, t: _grad(
        lambda x: pyebm.langevin_step(x, -x, r, NOISE, temperature=r), x
    ),
    "langevin_step_": lambda x, r, t: pyebm.langevin_step_(x.clone(), -x, 0.1, LISTED),
    "affine_step": lambda x, r, t: pyebm.affine_step(x, -x, r, 0.5, 0.1, NOISE),
    "energy_score": lambda x, r, t: pyebm.energy_score(_energy, x),
    "langevin_chain": lambda x, r, t: pyebm.langevin_chain(x, t, 5, 0.1, NOISE, thin=2, return_diverged=True),
    "a schedule": lambda x, r, t: pyebm.langevin_chain(x, t, 2, [0.1, 0.2], LISTED, temperature=r),
    "langevin_chain grad": lambda x, r, t: _grad(lambda x: pyebm.langevin_chain(x, t, 3, 0.1, NOISE), x),
    "target": lambda x, r, t: (t.score(x), t.energy(x)),
    "Langevin": lambda x, r, t: samplers.Langevin(torch.neg, 0.1)(x, 4, noise=NOISE),
    "Langevin of a target": lambda x, r, t: samplers.Langevin(t, 0.1)(x, 4, noise=LISTED, thin=2).states,
    "UnderdampedLangevin": lambda x, r, t: (
        samplers.UnderdampedLangevin(torch.neg, 0.1)(x, 4, noise=NOISE, thin=2).states
    ),
    "MALA": lambda x, r, t: tuple(
        samplers.MALA(_energy, 0.1, warmup=2)(x, 4, noise=NOISE, thin=2).info.values()
    ),
    "HMC": lambda x, r, t: tuple(samplers.HMC(t, 0.1, 3, warmup=2)(x, 4, noise=NOISE, thin=2).info.values()),
    "AnnealedLangevin": lambda x, r, t: samplers.AnnealedLangevin(lambda x, s: -x, [1.0, 0.5], 0.1, 3)(
        x, noise=NOISE
    ),
    "PredictorCorrector": lambda x, r, t: samplers.PredictorCorrector(lambda x, s: -x, samplers.VE(), 4)(
        x, noise=NOISE
    ),
}


def _described(result):
    results = result if isinstance(result, tuple) else (result,)
    return [(one.shape, one.dtype, one.stride()) for one in results]


def _inputs(dtype, device):
    return (
        torch.ones(4, 3, dtype=dtype, device=device),
        torch.ones(4, device=device),
        pyebm.targets.DoubleWell().to(device),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_meta(call, dtype):
    made = call(*_inputs(dtype, "meta"))
    assert all(one.is_meta for one in (made if isinstance(made, tuple) else (made,)))
    assert _described(made) == _described(call(*_inputs(dtype, "cpu")))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_fake(call):
    with FakeTensorMode():
        made = call(*_inputs(torch.float32, "cpu"))
    assert _described(made) == _described(call(*_inputs(torch.float32, "cpu")))


@pytest.mark.parametrize("backend", ["cpu", "cuda", "triton", "reference"])
def test_every_backend_has_the_same_shapes(backend):
    assert pyebm.perturb(torch.ones(4, 3, device="meta"), 0.5, NOISE, backend=backend).is_meta


def test_an_unknown_backend():
    with pytest.raises(ValueError, match="backend must be None or one of"):
        pyebm.perturb(torch.ones(4, 3, device="meta"), 0.5, NOISE, backend="mine")


def test_checks_remain():
    x = torch.ones(4, 3, device="meta")
    with pytest.raises(ValueError, match="perturb: sigma must be >"):
        pyebm.perturb(x, -1.0, NOISE)
    with pytest.raises(ValueError, match="names 4 samples, got a batch of 3"):
        pyebm.perturb(x[:3], 0.5, LISTED)
    with pytest.raises(ValueError, match="g must have x's shape"):
        pyebm.affine_step(x, x[:3], 1.0, 1.0, 1.0, NOISE)
