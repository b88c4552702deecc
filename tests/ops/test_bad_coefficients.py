"""A bad coefficient, number or tensor, gives an error that names the argument and says what
came, before any sample is written."""

from __future__ import annotations

import math

import pytest
import torch
from refusals import refuses

import pyebm

INF, NAN = math.inf, math.nan

# (lowest value, whether that value itself is allowed).
COEFFICIENTS = {
    "perturb": {"sigma": (0, True), "alpha": None},
    "langevin_step": {"step_size": (0, False), "temperature": (0, True)},
    "langevin_step_": {"step_size": (0, False), "temperature": (0, True)},
    "affine_step": {"a": None, "b": None, "c": None},
    "dsm_loss": {"sigma": (0, False), "weight": None},
    "denoising_loss": {"kappa": None, "lam": None, "mu": None, "weight": None},
}
ALL = [(op, name) for op, names in COEFFICIENTS.items() for name in names]
BOUNDED = [(op, name) for op, name in ALL if COEFFICIENTS[op][name]]


@pytest.mark.parametrize(("op", "name"), ALL)
class TestCoefficients:
    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    def test_not_finite(self, op, name, value):
        refuses(op, ValueError, rf"{op.rstrip('_')}: {name} must be .*finite, got {value}", **{name: value})

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ("0.5", TypeError, "number.*got str"),
            ([0.5], TypeError, "number.*got list"),
            (0.5j, TypeError, "number.*got complex"),
            (torch.ones(3, dtype=torch.int64), TypeError, "got torch.int64"),
            (torch.ones(3, dtype=torch.complex64), TypeError, "got torch.complex64"),
            (torch.ones(2), ValueError, r"\(3,\).*got \(2,\)"),
            (torch.ones(1, 3), ValueError, r"\(3,\).*got \(1, 3\)"),
            (torch.ones(3, 5), ValueError, r"\(3,\).*got \(3, 5\)"),
            (torch.empty(0), ValueError, r"\(3,\).*got \(0,\)"),
            (torch.ones(3, device="meta"), ValueError, "on cpu.*got meta"),
            (torch.ones(3).to_sparse(), TypeError, "torch.sparse_coo"),
        ],
        ids=[
            "str",
            "list",
            "complex",
            "int64",
            "complex64",
            "(2,)",
            "(1, 3)",
            "(3, 5)",
            "(0,)",
            "meta",
            "sparse",
        ],
    )
    def test_kind(self, op, name, value, error, message):
        if (op, name) == ("dsm_loss", "weight") and isinstance(value, str):
            error, message = ValueError, "'sigma2'.*got '0.5'"  # only this one takes names
        refuses(op, error, rf"{op.rstrip('_')}: {name} must .*{message}", **{name: value})


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(("op", "name"), BOUNDED)
@pytest.mark.parametrize("value", [0.0, -1.0, -1e-30, NAN, INF])
@pytest.mark.parametrize("form", ["number", "(B,)", "0-dim", "(B, 1)", "float64"])
def test_out_of_range(op, name, value, form, backend):
    """The error names the value, and for tensors on the CPU the sample that has it, before any
    sample is written."""
    low, closed = COEFFICIENTS[op][name]
    if value == low and closed:
        return
    rows = torch.tensor([0.5, 0.5, value])
    given = {
        "number": value,
        "(B,)": rows,
        "0-dim": torch.tensor(value),
        "(B, 1)": rows[:, None],
        "float64": rows.double(),
    }[form]
    sample = "" if form == "number" else f" for sample {0 if form == '0-dim' else 2}"
    bound = ">= 0" if closed else "> 0"
    number = "-?nan" if math.isnan(value) else rf"{value:g}" if form != "number" else str(value)
    refuses(
        op,
        ValueError,
        rf"{op.rstrip('_')}: {name} must be {bound} and finite, got {number}{sample}",
        **{name: given},
        backend=backend,
    )


@pytest.mark.parametrize("sigma", [-1.0, torch.tensor([0.5, NAN, 0.5]), torch.tensor(-1.0)])
@pytest.mark.parametrize("weight", [None, "sigma2", 2.0])
def test_sigma_is_checked_whatever_the_weight(sigma, weight):
    """A wrong sigma is refused with weight='sigma2' too, where the loss divides by nothing."""
    bound = ">= 0" if weight == "sigma2" else "> 0"
    refuses("dsm_loss", ValueError, f"dsm_loss: sigma must be {bound} and finite", sigma=sigma, weight=weight)


@pytest.mark.parametrize("sigma", [0.0, torch.tensor([0.5, 0.0, 0.5])])
def test_sigma_of_0_where_nothing_is_divided_by_it(sigma):
    refuses("dsm_loss", ValueError, "dsm_loss: sigma must be > 0 and finite", sigma=sigma)
    score, noise = torch.ones(3, 4), pyebm.Noise(0)
    z, s = noise.randn((3, 4)), torch.as_tensor(sigma).reshape(-1, 1)
    expected = 0.5 * (s * score + z).double().square().sum(1).mean().float()
    assert torch.allclose(pyebm.dsm_loss(score, sigma, noise, weight="sigma2"), expected)
    assert torch.equal(pyebm.perturb(score, sigma, noise), score + s * z)
