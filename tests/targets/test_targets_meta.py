"""Targets that are built on the meta device and moved, or built under another default device or
dtype, have the numbers that were given."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import assert_equal, normal
from target_cases import lacks, make
from torch import nn

import pyebm
from pyebm import Noise, targets

X = normal(4, 5)


def build(kind):
    """Makes the numbers here, as a module's constructor does."""
    if kind == "mixture":
        return targets.GaussianMixture(torch.linspace(-1, 1, 15, dtype=torch.float32).reshape(3, 5), 0.5)
    if kind == "mixture_diagonal":
        scale = torch.linspace(0.5, 1, 15, dtype=torch.float64).reshape(3, 5)
        return targets.GaussianMixture(
            torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(3, 5),
            scale,
            torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64),
        )
    if kind == "gaussian_full":
        return targets.Gaussian(0.5, covariance=torch.eye(5, dtype=torch.float64) * 2)
    if kind == "gaussian":
        return targets.Gaussian(torch.linspace(-1, 1, 5, dtype=torch.float64), 0.7)
    return make(kind, 5)


ALL = pyebm._schemas.TARGETS


class Model(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.target = build(kind)


@pytest.mark.parametrize("kind", ALL)
def test_built_on_meta_and_loaded(kind):
    model = Model(kind)
    with torch.device("meta"):
        empty = Model(kind)
    assert all(value.is_meta for value in empty.state_dict().values())
    assert "target" in repr(empty)
    for assign in (False, True):
        moved = copy.deepcopy(empty)
        if not assign:
            moved.to_empty(device="cpu")
        moved.load_state_dict(model.state_dict(), assign=assign)
        assert_equal(moved.target.score(X), model.target.score(X))
        assert_equal(moved.target(X), model.target(X))
        chains = [pyebm.langevin_chain(X, m.target, 3, 0.01, Noise(0)) for m in (moved, model)]
        assert_equal(*chains)


@pytest.mark.parametrize("kind", ALL)
def test_energies_on_meta(kind):
    """Energies on meta have shapes and dtypes, but no numbers."""
    target, x = build(kind).to("meta"), X.to("meta")
    for dtype in (torch.float32, torch.bfloat16):
        energy = target(x.to(dtype))
        assert energy.is_meta
        assert energy.shape == (4,)
        assert energy.dtype == torch.float32
    if not lacks(target, "log_prob", 5):
        assert target.log_prob(x).shape == (4,)
    with pytest.raises(ValueError, match="x must be on the target's device meta, got cpu"):
        target.score(X)


def test_numbers_go_where_the_tensors_are():
    means, std, covariance = normal(3, 5), torch.ones(5), torch.eye(5)
    with torch.device("meta"):
        mixture = targets.GaussianMixture(means, 0.5)
        gaussian = targets.Gaussian(0.0, std)
        full = targets.Gaussian(0.0, covariance=covariance)
    for target in (mixture, gaussian, full):
        assert {tensor.device.type for tensor in target.buffers()} == {"cpu"}
        assert target.score(X).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ALL)
def test_the_default_dtype_changes_nothing(kind, dtype):
    def everything():
        target = build(kind)
        results = [*target.state_dict().values(), target(X), target.score(X), target.score(X.bfloat16())]
        results.append(target.score(X.clone().requires_grad_()).detach())
        results.append(pyebm.langevin_chain(X, target, 2, 0.01, Noise(0)))
        results.append(pyebm.samplers.MALA(target, 0.01)(X, 2, noise=Noise(0)))
        if not lacks(target, "log_prob", 5):
            results.append(target.log_prob(X))
        if not lacks(target, "sample", 5):
            results.append(target.sample((4, 5), Noise(0)))
        return results

    want, before = everything(), torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        got = everything()
    finally:
        torch.set_default_dtype(before)
    for ours, theirs in zip(got, want, strict=True):
        assert_equal(ours, theirs)
