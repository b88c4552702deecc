"""The losses of k-diffusion's other denoisers, and its samplers with s_churn, against its own."""

from __future__ import annotations

import warnings

import pytest
import torch
from cases import assert_equal, normal
from compare import DTYPES, assert_as_good, gradient
from peers import package

from pyebm import Noise

k_diffusion = package("k_diffusion")

from pyebm.integrations import k_diffusion as ours  # noqa: E402

SHAPE = (5, 3, 8, 8)
NOISE = Noise(1, step=7)
SIGMA = torch.tensor([0.02, 0.1, 0.7, 5.0, 60.0])
ABAR = torch.linspace(0.9999, 0.001, 50)


class Inner(torch.nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.weight = torch.nn.Parameter(normal(3, 8, 8, dtype=dtype, seed=5))
        self.alphas_cumprod = ABAR

    def forward(self, x, _sigma, return_variance=False, variance="samples"):
        output = self.weight * x
        if not return_variance:
            return output
        logvar = output.flatten(1).mean(1)
        return output, logvar if variance == "samples" else logvar[:, None, None, None] * x

    def apply_model(self, x, t, _cond=None):
        return self(x, t)


MADE = {
    "SimpleLossDenoiser": lambda cls, inner: cls(inner, sigma_data=0.5),
    "VDenoiser": lambda cls, inner: cls(inner),
    "DiscreteEpsDDPMDenoiser": lambda cls, inner: cls(inner, ABAR.to(inner.weight.dtype), quantize=True),
    "DiscreteVDDPMDenoiser": lambda cls, inner: cls(inner, ABAR.to(inner.weight.dtype), quantize=False),
    "CompVisDenoiser": lambda cls, inner: cls(inner),
    "DenoiserWithVariance": lambda cls, inner: cls(inner, sigma_data=0.5),
}


def compared(name, dtype, noise, z, exact_z, **kwargs):
    here, there = getattr(ours, name), None
    for module in (k_diffusion.layers, k_diffusion.external):
        there = getattr(module, name, there)
    x0, results = normal(*SHAPE, dtype=dtype), []
    for cls, drawn, work in ((here, noise, dtype), (there, z, dtype), (there, exact_z, torch.float64)):
        inner = Inner(dtype).to(work)
        sigma = SIGMA.to(dtype).to(work)
        losses = MADE[name](cls, inner).to(work).loss(x0.to(work), drawn, sigma, **kwargs)
        results.append(gradient(losses, inner.weight))
    for triple in zip(*results, strict=True):
        assert_as_good(*triple)


@pytest.mark.parametrize("name", [name for name in MADE if name != "DenoiserWithVariance"])
@pytest.mark.parametrize("ours", [True, False], ids=["regenerated", "caller's noise"])
def test_loss_and_gradient(name, ours):
    kwargs = {"_cond": None} if name == "CompVisDenoiser" else {}
    dtype, z = torch.float32, normal(*SHAPE, seed=1)
    noise, z, exact = (
        (NOISE, NOISE.randn(SHAPE), NOISE.randn(SHAPE, dtype=torch.float64)) if ours else (z, z, z.double())
    )
    compared(name, dtype, noise, z, exact, **kwargs)


@pytest.mark.parametrize("variance", ["samples", "elements"])
def test_learned_variance(variance):
    exact = NOISE.randn(SHAPE, dtype=torch.float64)
    compared("DenoiserWithVariance", torch.float32, NOISE, NOISE.randn(SHAPE), exact, variance=variance)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_half_precisions(dtype):
    compared("VDenoiser", dtype, NOISE, NOISE.randn(SHAPE, dtype=dtype), NOISE.randn(SHAPE).double())


def test_they_are_theirs():
    inner = Inner(torch.float32)
    for name, make in MADE.items():
        made = make(getattr(ours, name), inner)
        assert any(
            isinstance(made, getattr(module, name, ()))
            for module in (k_diffusion.layers, k_diffusion.external)
        )


def test_sigma_is_refused_by_name():
    with pytest.raises(ValueError, match=r"VDenoiser.*: sigma must be"):
        ours.VDenoiser(Inner(torch.float32)).loss(normal(*SHAPE), NOISE, torch.ones(2))
    with pytest.raises(TypeError, match=r"SimpleLossDenoiser.*: noise must be"):
        ours.SimpleLossDenoiser(Inner(torch.float32)).loss(normal(*SHAPE), "noise", SIGMA)


def denoiser(x, sigma, scale=1.0):
    return scale * x / (1 + sigma[:, None, None, None] ** 2)


@pytest.mark.parametrize("name", ["sample_euler", "sample_heun", "sample_dpm_2"])
@pytest.mark.parametrize("s_churn", [0.0, 3.0])
def test_churn(name, s_churn):
    """With torch.randn_like it is k-diffusion's run; a Noise gives each sample its own."""
    theirs, sample = getattr(k_diffusion.sampling, name), getattr(ours, name)
    sigmas, x = k_diffusion.sampling.get_sigmas_karras(6, 0.1, 10.0), 10 * normal(*SHAPE)
    options = {"s_churn": s_churn, "s_tmin": 0.2, "s_tmax": 8.0, "s_noise": 1.01, "disable": True}
    options["extra_args"] = {"scale": 0.9}
    results, seen = [], []
    for run, dtype, noise in (
        (sample, torch.float32, {"noise": torch.randn_like}),
        (theirs, torch.float32, {}),
        (theirs, torch.float64, {}),
    ):
        torch.manual_seed(3)
        with pytest.MonkeyPatch.context() as patch:
            if dtype == torch.float64:
                patch.setattr(torch, "randn_like", lambda x: torch.randn(x.shape).double())
            states = []
            results.append(
                run(denoiser, x.to(dtype), sigmas.to(dtype), callback=states.append, **options, **noise)
            )
        seen.append(states)
    assert_as_good(*results, scale=10.0)
    assert [one["i"] for one in seen[0]] == [one["i"] for one in seen[1]]
    for mine, other in zip(*seen[:2], strict=True):
        assert_equal(mine["sigma_hat"], other["sigma_hat"])
        torch.testing.assert_close(mine["x"], other["x"])
    whole = sample(denoiser, x, sigmas, **options, noise=NOISE)
    assert_equal(sample(denoiser, x[2:], sigmas, **options, noise=NOISE.shard(first_sample=2)), whole[2:])
    assert torch.equal(whole, sample(denoiser, x, sigmas, **options, noise=NOISE.at(step=99))) == (
        s_churn == 0
    )


@pytest.mark.parametrize("name", ["sample_dpmpp_sde", "sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde"])
def test_sde_samplers_take_the_path(name):
    """A sample is itself in any batch; the law is that of a run over torchsde's tree."""
    sample = getattr(k_diffusion.sampling, name)
    sigmas, x = k_diffusion.sampling.get_sigmas_karras(12, 0.1, 10.0), 10 * normal(400, 1, 2, 2)

    def run(x, noise_sampler):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchsde, of an interval that float32 rounds
            return sample(denoiser, x, sigmas, disable=True, noise_sampler=noise_sampler)

    whole = run(x, ours.BrownianTreeNoiseSampler(x, 0.1, 10.0, Noise(0)))
    part = x[100:]
    got = run(part, ours.BrownianTreeNoiseSampler(part, 0.1, 10.0, Noise(0, first_sample=100)))
    assert_equal(got, whole[100:])
    torch.testing.assert_close(
        run(x, k_diffusion.sampling.BrownianTreeNoiseSampler(x, 0.1, 10.0, 1)).std(),
        whole.std(),
        rtol=0.1,
        atol=0,
    )
