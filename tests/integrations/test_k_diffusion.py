"""The Denoiser's loss and the noise of the ancestral samplers against k-diffusion's own."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from compare import DTYPES, assert_as_good, gradient
from peers import package

from pyebm import Noise

k_diffusion = package("k_diffusion")

from pyebm.integrations.k_diffusion import Denoiser, noise_sampler  # noqa: E402

SHAPE = (5, 3, 8, 8)
NOISE = Noise(1, step=7)
SIGMA = torch.tensor([0.02, 0.1, 0.7, 5.0, 60.0])


class Inner(torch.nn.Module):
    """A network that keeps the input it was given, and has a parameter to differentiate by."""

    def __init__(self, dtype):
        super().__init__()
        self.weight = torch.nn.Parameter(normal(3, 8, 8, dtype=dtype, seed=5))
        self.seen = None

    def forward(self, x, sigma, shift=0.0):
        self.seen = x, sigma
        return self.weight * x + shift


@pytest.mark.parametrize("weighting", ["karras", "soft-min-snr", "snr"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ours", [True, False], ids=["regenerated", "caller's noise"])
def test_loss_and_gradient(dtype, weighting, ours):
    x0, z = normal(*SHAPE, dtype=dtype), normal(*SHAPE, dtype=dtype, seed=1)
    if ours:
        z = NOISE.randn(SHAPE, dtype=dtype)
    exact_z = NOISE.randn(SHAPE, dtype=torch.float64) if ours else z.double()
    results = []
    for cls, noise, work in (
        (Denoiser, NOISE if ours else z, dtype),
        (k_diffusion.layers.Denoiser, z, dtype),
        (k_diffusion.layers.Denoiser, exact_z, torch.float64),
    ):
        inner = Inner(dtype).to(work)
        model = cls(inner, sigma_data=0.5, weighting=weighting)
        sigma = SIGMA.to(work)
        losses = model.loss(x0.to(work), noise, sigma.to(dtype).to(work), shift=0.25)
        results.append((*gradient(losses, inner.weight), inner.seen[0].detach()))
        assert_equal(inner.seen[1], sigma.to(dtype).to(work))
    got, plain, truth = results
    # In half precision k-diffusion returns the rounded loss, and ours float32.
    for triple in zip(got, plain, truth, strict=True):
        assert_as_good(*triple)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")  # k-diffusion's
def test_forward_stays_theirs():
    inner, x = Inner(torch.float32), normal(*SHAPE)
    ours, theirs = (cls(inner, sigma_data=0.5, scales=2) for cls in (Denoiser, k_diffusion.layers.Denoiser))
    assert_equal(ours(x, SIGMA), theirs(x, SIGMA))


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")  # k-diffusion's
@pytest.mark.parametrize("weighting", ["karras", "soft-min-snr"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_by_frequency(dtype, weighting):
    x0, results = normal(*SHAPE, dtype=dtype), []
    for cls, noise, work in (
        (Denoiser, NOISE, dtype),
        (k_diffusion.layers.Denoiser, NOISE.randn(SHAPE, dtype=dtype), torch.float32),
        (k_diffusion.layers.Denoiser, NOISE.randn(SHAPE, dtype=torch.float64), torch.float64),
    ):
        inner = Inner(dtype).to(work if work == torch.float64 else torch.float32)
        model = cls(inner, sigma_data=0.5, weighting=weighting, scales=2)
        losses = model.loss(x0.to(work), noise, SIGMA.to(inner.weight.dtype))
        results.append(gradient(losses, inner.weight))
    for triple in zip(*results, strict=True):
        # The transform adds up 64 numbers, so its rounding is a few ulps of the largest.
        assert_as_good(*triple, scale=4 * float(triple[2].abs().max()))


def model(x, sigma):
    """The denoiser of a standard normal."""
    return x / (1 + sigma[:, None, None, None] ** 2)


@pytest.mark.parametrize(
    "sampler", ["sample_euler_ancestral", "sample_dpm_2_ancestral", "sample_dpmpp_2s_ancestral"]
)
def test_noise_sampler(sampler):
    """A sample is the same in every batch; with torch.randn_like it has k-diffusion's bits."""
    sample, sigmas = (
        getattr(k_diffusion.sampling, sampler),
        k_diffusion.sampling.get_sigmas_karras(6, 0.1, 10.0),
    )
    x = normal(*SHAPE) * 10
    whole = sample(model, x, sigmas, disable=True, noise_sampler=noise_sampler(x, NOISE))
    part = sample(
        model, x[2:], sigmas, disable=True, noise_sampler=noise_sampler(x[2:], NOISE.shard(first_sample=2))
    )
    assert_equal(part, whole[2:])
    torch.manual_seed(3)
    same = sample(model, x, sigmas, disable=True, noise_sampler=noise_sampler(x, torch.randn_like))
    torch.manual_seed(3)
    assert_equal(same, sample(model, x, sigmas, disable=True))


def test_noise_sampler_with_a_seed_for_each_sample():
    seeds = torch.tensor([7, 8, 9])
    x = torch.zeros(3, 4)
    whole = noise_sampler(x, Noise(seeds, sample_ids=torch.zeros_like(seeds)))(1.0, 0.5)
    one = noise_sampler(x[1:2], Noise(seeds[1:2], sample_ids=[0]))(1.0, 0.5)
    assert_equal(one, whole[1:2])
