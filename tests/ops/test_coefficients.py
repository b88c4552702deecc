"""Coefficients of every op: a number, one value for all samples, or one per sample, in every
form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import assert_equal, levels, normal

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

NOISE = Noise(2)
OTHERS = {
    "sigma": 0.3,
    "alpha": 0.9,
    "step_size": 0.1,
    "temperature": 0.5,
    "a": 0.9,
    "b": 0.2,
    "c": 0.3,
    "kappa": 0.7,
    "lam": -0.4,
    "mu": 0.6,
    "weight": 1.5,
}


def _loss(loss, pred, noise, backend, **options):
    """The loss per sample and, beside it, its gradient: (B, 1 + elements)."""
    pred = pred.detach().requires_grad_()
    value = loss(pred, noise=noise, reduction="sample", backend=backend, **options)
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    return torch.cat([value.detach()[:, None], gradient.flatten(1).to(value.dtype)], 1)


# op: (its coefficients, a call that takes them as keywords).
OPS = {
    "perturb": (
        ("sigma", "alpha"),
        lambda x, noise, backend, **c: pyebm.perturb(x, noise=noise, backend=backend, **c),
    ),
    "langevin_step": (
        ("step_size", "temperature"),
        lambda x, noise, backend, **c: pyebm.langevin_step(x, -x, noise=noise, backend=backend, **c),
    ),
    "langevin_step_": (
        ("step_size", "temperature"),
        lambda x, noise, backend, **c: pyebm.langevin_step_(x.clone(), -x, noise=noise, backend=backend, **c),
    ),
    "affine_step": (
        ("a", "b", "c"),
        lambda x, noise, backend, **c: pyebm.affine_step(x, -x, noise=noise, backend=backend, **c),
    ),
    "dsm_loss": (
        ("sigma", "weight"),
        lambda x, noise, backend, **c: _loss(pyebm.dsm_loss, x, noise, backend, **c),
    ),
    "denoising_loss": (
        ("kappa", "lam", "mu", "weight"),
        lambda x, noise, backend, **c: _loss(
            pyebm.denoising_loss, x, noise, backend, x0=2 * x.detach() - 1, **c
        ),
    ),
}
CASES = [(op, name) for op, (names, _) in OPS.items() for name in names]

PER_SAMPLE = {
    "(B,)": lambda v: v,
    "(B, 1, 1)": lambda v: v.reshape(-1, 1, 1),
    "float64": lambda v: v.double() * 1.000000001,  # no float32: must not be rounded early
    "float16": lambda v: v.half(),
    "bfloat16": lambda v: v.bfloat16(),
    "strided": lambda v: torch.stack([v, v * torch.nan], 1)[:, 0],
    "strided (B, 1, 1)": lambda v: torch.stack([v, v * torch.nan], 1)[:, 0][:, None, None],
    "expanded": lambda v: v[:1].expand(v.shape),
}
SINGLE = {
    "int": lambda _: 1,
    "numpy": lambda v: np.float32(v),
    "0-dim": lambda v: torch.tensor(v),
    "0-dim float64": lambda v: torch.tensor(v, dtype=torch.float64),
    "(1,)": lambda v: torch.tensor([v]),
    "(1, 1, 1)": lambda v: torch.tensor([[[v]]]),
}


def applied(op, name, value, x, noise, backend):
    names, call = OPS[op]
    return call(x, noise, backend, **{other: OTHERS[other] for other in names} | {name: value})


@pytest.mark.parametrize(("op", "name"), CASES, ids=lambda case: case)
class TestForms:
    @pytest.mark.parametrize("form", PER_SAMPLE)
    def test_per_sample(self, backend, device, op, name, form):
        """Each sample has the bits that it has alone with its own number, so samples do not mix."""
        x, value = normal(5, 3, 7, device=device), PER_SAMPLE[form](levels(5, device))
        before = value.clone()
        got = applied(op, name, value, x, NOISE, backend)
        for b, number in enumerate(value.flatten().tolist()):
            alone = applied(op, name, number, x[b : b + 1], NOISE.shard(first_sample=b), backend)
            assert_equal(got[b : b + 1], alone)
        assert_equal(value, before, equal_nan=True)

    @pytest.mark.parametrize("form", SINGLE)
    def test_one_for_all(self, backend, device, op, name, form):
        x, value = normal(5, 3, 7, device=device), SINGLE[form](0.7)
        value = value.to(device) if isinstance(value, torch.Tensor) else value
        assert_equal(
            applied(op, name, value, x, NOISE, backend), applied(op, name, float(value), x, NOISE, backend)
        )

    def test_float64_samples(self, backend, device, op, name):
        """The arithmetic of float64 samples is float64: a float64 coefficient reaches it
        unrounded."""
        x, value = normal(5, 11, dtype=torch.float64, device=device), levels(5, device, dtype=torch.float64)
        got = applied(op, name, value, x, NOISE, backend)
        # Backends need not agree in the last bit of a loss, which is a sum.
        torch.testing.assert_close(got, applied(op, name, value, x, NOISE, "reference"), rtol=1e-14, atol=0)
        assert not torch.equal(got, applied(op, name, value.float(), x, NOISE, backend))

    def test_empty_batch(self, op, name, backend, device):
        got = applied(op, name, torch.empty(0, device=device), normal(0, 3, device=device), NOISE, backend)
        assert len(got) == 0


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("temperature", [0.0, torch.tensor([0.0, 0.5, 0.0])], ids=["number", "rows"])
def test_temperature_zero_adds_no_noise(backend, temperature):
    x, score = normal(3, 5), normal(3, 5, seed=1)
    got = pyebm.langevin_step(x, score, 0.1, NOISE, temperature=temperature, backend=backend)
    cold = torch.as_tensor(temperature).expand(3) == 0
    assert_equal(got[cold], (x + 0.1 * score)[cold])
    assert (got != x + 0.1 * score)[~cold].all()


def test_the_noise_scale_is_made_in_double():
    """c = sqrt(2 eta T) is rounded once: a root taken in float32 would be an ulp off here."""
    x = torch.zeros(1, 4096)
    eta = next(
        eta
        for eta in levels(200, dtype=torch.float64).tolist()
        if np.sqrt(np.float32(2 * eta)) != np.float32(np.sqrt(2 * eta))
    )
    want = np.float32(np.sqrt(2 * eta)) * NOISE.randn(x.shape).numpy()
    for value in (eta, torch.tensor([eta], dtype=torch.float64)):
        assert_equal(pyebm.langevin_step(x, x, value, NOISE), torch.from_numpy(want))
