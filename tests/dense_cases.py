"""The tests of the dense targets share mixtures of every kind, the truth in extended precision,
and the bound of docs/accuracy.md."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import levels, normal

import pyebm
from pyebm.targets import Gaussian, GaussianMixture

SCALES = ("number", "components", "dimensions", "both")
# Sizes below and above the kernels' 4 fused dimensions, 12 rows in registers, 96 components a tile
# and 128 dimensions a span.
SIZES = (
    (1, 1),
    (3, 1),
    (2, 5),
    (13, 2),
    (100, 3),
    (97, 4),
    (211, 7),
    (96, 16),
    (130, 33),
    (40, 130),
    (20, 512),
    (30, 1027),
)


def has_the_op(backend, op):
    """Skips the test where the backend does not have the op yet."""
    try:
        pyebm._ops.kernels(backend, torch.empty(0))[op]
        pyebm.targets.GaussianMixture(torch.zeros(1, 2), 1.0).score(torch.zeros(1, 2), backend=backend)
    except RuntimeError as missing:
        pytest.skip(f"{backend} does not have {op} of dense targets yet: {missing}")
    return backend


def emulates(backend, threads=1):
    """True for a backend that emulates a device, or is the reference, and so takes a thousand
    times as long. Threads don't matter there: skips runs on two."""
    native = backend == "cpu" or (backend in ("cuda", "triton") and not pyebm._ops._interpreted())
    if not native and threads > 1:
        pytest.skip("its kernels know nothing of torch's threads")
    return not native


def scale_of(kind, count, dim):
    return {
        "number": 0.8,
        "components": levels(count, seed=5).reshape(-1, 1) + 0.4,
        "dimensions": levels(dim, seed=6) + 0.4,
        "both": levels(count * dim, seed=7).reshape(count, dim) + 0.4,
    }[kind]


def mixture(count, dim, scale="number", spread=1.0):
    """Components of uneven weight, one of them of weight zero."""
    weights = levels(count, seed=3, dtype=torch.float64)
    weights[0] *= count <= 2
    return GaussianMixture(
        spread * normal(count, dim, seed=2), scale_of(scale, count, dim), weights / weights.sum()
    )


def correlated(dim):
    """A target whose covariance couples all dimensions, with eigenvalues from 1/2 on."""
    factor = normal(dim, dim, dtype=torch.float64, seed=11) / dim**0.5
    return Gaussian(
        normal(dim, seed=12), covariance=factor @ factor.T + 0.5 * torch.eye(dim, dtype=torch.float64)
    )


MAKE = {
    "mixture": lambda dim: mixture(30, dim, "components"),
    "mixture-shared": lambda dim: mixture(100, dim, "dimensions"),
    "mixture-diagonal": lambda dim: mixture(7, dim, "both"),
    "gaussian-full": lambda dim: correlated(dim),
}


def _parameters(target, dtype):
    """Returns the means and variances (M, D) as the kernels have them, and the log weights, in
    extended precision."""
    wide = [target.get_buffer(name).double() for name in ("means", "weights")]
    scale = target._rows().expand_as(wide[0])
    means = wide[0].to(dtype).double()
    return (np.asarray(each.numpy(), dtype=np.longdouble) for each in (means, scale.square(), wide[1]))


def truth(target, x):
    """Returns the score (B, D) and the error that an implementation in x's dtype may have
    (docs/accuracy.md), both in extended precision."""
    means, variances, weights = _parameters(target, x.dtype)
    count, dim = means.shape
    at = np.asarray(x.double().numpy(), dtype=np.longdouble)
    unit = np.longdouble(torch.finfo(x.dtype).eps) / 2
    pulls, roundings = np.empty_like(at), np.empty_like(at)
    with np.errstate(divide="ignore"):
        offsets = np.log(weights) - 0.5 * np.log(variances).sum(1)
    offsets -= offsets.max()
    for b in range(len(at)):
        far = means - at[b]
        apart = 0.5 * (far**2 / variances).sum(1)
        logs = offsets - apart
        r = np.exp(logs - logs.max())
        r = (r / r.sum())[:, None]
        pulls[b] = (r * far / variances).sum(0)
        size = 1 + apart[:, None] + np.abs(np.where(np.isfinite(offsets), offsets, 0))[:, None]
        of_weights = (r * size * (np.abs(far) / variances + np.abs(pulls[b]))).sum(0)
        of_sums = (r * (np.abs(means) + np.abs(at[b])) / variances).sum(0)
        roundings[b] = (min(dim, 128) + dim / 128 + 12) * of_weights + (
            min(count, 96) + count / 96 + 12
        ) * of_sums
    return pulls, roundings * unit


def assert_within_bound(got, target, x):
    expected, bound = truth(target, x)
    off = np.abs(np.asarray(got.double().numpy(), dtype=np.longdouble) - expected)
    assert (off <= bound).all(), f"{float((off / bound).max())} of the bound"
    return float((off / bound).max())


def energy_bound(target, x):
    """Returns the energy (B,) and the error that an implementation in x's dtype may have
    (docs/accuracy.md), both in extended precision."""
    means, variances, weights = _parameters(target, x.dtype)
    count, dim = means.shape
    at = np.asarray(x.double().numpy(), dtype=np.longdouble)
    unit = np.longdouble(torch.finfo(x.dtype).eps) / 2
    with np.errstate(divide="ignore"):
        offsets = np.log(weights / weights.sum()) - 0.5 * np.log(variances).sum(1)
    most = offsets.max()
    offsets -= most
    energies, roundings = np.empty(len(at), dtype=np.longdouble), np.empty(len(at), dtype=np.longdouble)
    for b in range(len(at)):
        apart = 0.5 * ((means - at[b]) ** 2 / variances).sum(1)
        logs = offsets - apart
        r = np.exp(logs - logs.max())
        energies[b] = 0.5 * dim * np.log(2 * np.longdouble(np.pi)) - most - logs.max() - np.log(r.sum())
        r /= r.sum()
        size = 1 + apart + np.abs(np.where(np.isfinite(offsets), offsets, 0))
        of_weights = (r * size).sum()
        roundings[b] = (min(dim, 128) + dim / 128 + 12) * of_weights + (min(count, 96) + count / 96 + 12)
    return energies, unit * roundings
