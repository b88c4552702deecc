"""Bad input to any op gives an error that names the argument and says what came, and touches
nothing. Coefficients: test_bad_coefficients.py."""

from __future__ import annotations

import math

import pytest
import torch
from cases import normal
from refusals import LOSSES, NOISE, OPS, STEPS, good, refuses

import pyebm
from pyebm import Noise

NAN = math.nan


ELEMENTWISE = [
    ("langevin_step", "score"),
    ("langevin_step_", "score"),
    ("affine_step", "g"),
    ("denoising_loss", "x0"),
    *((op, "noise") for op in LOSSES),
]


def test_what_is_good_works():
    for op in OPS:
        getattr(pyebm, op)(**good(op))


@pytest.mark.parametrize("op", OPS)
class TestSamples:
    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            (torch.ones(3, 4, dtype=torch.int64), TypeError, "torch.int64"),
            (torch.ones(3, 4, dtype=torch.bool), TypeError, "torch.bool"),
            (torch.ones(3, 4, dtype=torch.complex64), TypeError, "torch.complex64"),
            (torch.ones(3, 4).to_sparse(), TypeError, "torch.sparse_coo"),
            (torch.tensor(1.0), ValueError, "0-dim"),
            ([[1.0]], TypeError, "list"),
            (torch.ones(1).expand(1, 2**34 + 1), ValueError, r"2\*\*34 elements a sample, got 17179869185"),
            (torch.ones(1).expand(3, 2**33, 3), ValueError, r"2\*\*34 elements a sample, got 25769803776"),
        ],
        ids=["int64", "bool", "complex64", "sparse", "0-dim", "list", "large", "large-3"],
    )
    def test_samples(self, op, value, error, message):
        name = next(iter(good(op)))
        refuses(op, error, rf"{op}: {name} must .*{message}", **{name: value})

    def test_backend(self, op):
        refuses(op, ValueError, "backend must be None or one of .*'cpu'.*got 'gpu'", backend="gpu")
        refuses(op, RuntimeError, "backend 'triton' can't run: .+", backend="triton")

    @pytest.mark.parametrize(
        ("noise", "message"),
        [
            (Noise(torch.tensor([1, 2])), "seed names 2 samples, got a batch of 3"),
            (Noise(0, sample_ids=[1, 2, 3, 4]), "sample_ids names 4 samples, got a batch of 3"),
            (Noise(0, first_sample=2**32 - 2), "first_sample=4294967294 and 3 samples"),
        ],
        ids=["seeds", "ids", "overflow"],
    )
    def test_noise_of_another_batch(self, op, noise, message):
        refuses(op, ValueError, message, noise=noise)

    @pytest.mark.parametrize("noise", [None, 0, torch.Generator()], ids=["None", "int", "Generator"])
    def test_noise_of_another_type(self, op, noise):
        refuses(
            op,
            TypeError,
            rf"{op.rstrip('_')}.*noise must be a Noise.*got {type(noise).__name__}",
            noise=noise,
        )

    def test_a_tensor_for_noise(self, op):
        """The losses take the caller's own noise tensor; the other calls don't, which users
        confuse easily."""
        if op not in LOSSES:
            refuses(
                op, TypeError, rf"{op.rstrip('_')}.*noise must be a Noise.*got Tensor", noise=normal(3, 4)
            )


@pytest.mark.parametrize(("op", "name"), ELEMENTWISE)
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (normal(3, 5), ValueError, r"shape \(3, 4\), got \(3, 5\)"),
        (normal(1, 4), ValueError, r"shape \(3, 4\), got \(1, 4\)"),
        (normal(4), ValueError, r"shape \(3, 4\), got \(4,\)"),
        (normal(3, 4).to("meta"), ValueError, "device cpu, got meta"),
        (normal(3, 4).int(), TypeError, "got torch.int32"),
        (normal(3, 4).to_sparse(), TypeError, "torch.sparse_coo"),
        (normal(3, 4).half().to_sparse(), TypeError, "torch.sparse_coo"),
        ("abc", TypeError, "str"),
    ],
    ids=["shape", "no-broadcast", "no-batch", "device", "int", "sparse", "sparse-half", "str"],
)
def test_elementwise_arguments(op, name, value, error, message):
    refuses(op, error, rf"{op.rstrip('_')}: {name} must .*{message}", **{name: value})


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, name in ELEMENTWISE if op in STEPS])
def test_a_wider_score(op, name):
    refuses(
        op,
        TypeError,
        f"{name} must have x's dtype torch.float32 or a narrower one, got torch.float64",
        **{name: normal(3, 4).double()},
    )


@pytest.mark.parametrize("op", STEPS)
class TestStepOptions:
    @pytest.mark.parametrize(
        ("name", "value", "error", "message"),
        [
            ("clamp", (1, 0), ValueError, r"low <= high, got \(1.0, 0.0\)"),
            ("clamp", (NAN, 1), ValueError, "low <= high, got"),
            ("clamp", (0, NAN), ValueError, "low <= high, got"),
            ("clamp", 1.0, TypeError, "got 1.0"),
            ("clamp", (0, 1, 2), (TypeError, ValueError), r"got \(0, 1, 2\)"),
            ("mask", normal(3, 4), TypeError, "bool.*got torch.float32"),
            ("mask", [True], TypeError, "bool.*got list"),
            ("mask", torch.ones(4, 4, dtype=torch.bool), ValueError, r"broadcast.*\(3, 4\), got \(4, 4\)"),
            (
                "mask",
                torch.ones(2, 3, 4, dtype=torch.bool),
                ValueError,
                r"broadcast.*\(3, 4\), got \(2, 3, 4\)",
            ),
            ("mask", torch.ones(3, 4, dtype=torch.bool, device="meta"), ValueError, "device cpu, got meta"),
            ("mask", torch.ones(3, 4, dtype=torch.bool).to_sparse(), TypeError, "torch.sparse_coo"),
        ],
    )
    def test_option(self, op, name, value, error, message):
        refuses(op, error, rf"{op.rstrip('_')}: {name} must .*{message}", **{name: value})

    @pytest.mark.parametrize("value", [0.0, -1.0, NAN])
    def test_score_clip(self, op, value):
        if op != "affine_step":
            refuses(op, ValueError, f"score_clip must be > 0.*got {value}", score_clip=value)


class TestInPlace:
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (normal(3, 1).expand(3, 4), "expanded or overlap itself"),
            (normal(1, 4).expand(3, 4), "expanded or overlap itself"),
            (normal(8).as_strided((3, 4), (2, 1)), "expanded or overlap itself"),
            (normal(3, 4, grad=True), "leaf that requires grad"),
            (normal(3, 4, grad=True) * 2, "must not require grad"),
        ],
        ids=["expanded", "expanded batch", "overlapping", "leaf", "graph"],
    )
    def test_x(self, x, message):
        refuses(
            "langevin_step_",
            ValueError,
            f"langevin_step_: x must not .*{message}|langevin_step_: x {message}",
            x=x,
        )

    def test_score_that_requires_grad(self):
        refuses(
            "langevin_step_",
            ValueError,
            "langevin_step_: score must not require grad",
            score=normal(3, 4, grad=True),
        )

    def test_without_grad_a_leaf_is_fine(self):
        x = normal(3, 4, grad=True)
        with torch.no_grad():
            assert pyebm.langevin_step_(x, x, 0.1, NOISE) is x


class TestLossOptions:
    @pytest.mark.parametrize("op", LOSSES)
    @pytest.mark.parametrize("reduction", ["avg", "", None, 1])
    def test_reduction(self, op, reduction):
        got = (
            rf"{op}: reduction must be one of 'none', 'sample', 'sum', 'mean', 'batchmean', got {reduction!r}"
        )
        refuses(op, ValueError, got, reduction=reduction)

    def test_weight(self):
        refuses(
            "dsm_loss", ValueError, "dsm_loss: weight must be None, 'sigma2', .*got 'sigma'", weight="sigma"
        )

    @pytest.mark.parametrize("mu", [1.0, torch.tensor([0.0, 1.0, 0.0])])
    def test_mu_needs_x0(self, mu):
        refuses(
            "denoising_loss", ValueError, "denoising_loss: x0 must be given where mu is not 0", mu=mu, x0=None
        )
