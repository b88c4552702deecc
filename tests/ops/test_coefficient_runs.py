"""Coefficients of runs of elements: one value per token of a sample, per element or per sample,
in every op that takes a coefficient."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from cases import DTYPES, assert_equal, normal
from torch import Tensor

import pyebm
from pyebm.reference import OPS as REFERENCE

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

COMPILED = {
    name: getattr(torch.ops.pyebm, name).default for name in ("perturb", "langevin_step", "affine_step")
} | {name: getattr(torch.ops.pyebm, name).default for name in ("denoising_loss", "denoising_grad")}
NAME = torch.tensor([3, 5, 2, 1])
NAN = math.nan


every_level = pytest.mark.usefixtures("simd")


# (shape, how many values a coefficient has): per sample, token and element. Runs have one element
# to many, in samples that are narrow, or cut into chunks of 1024, with runs that begin in one chunk
# and end in another.
SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((300, 1), (300,)),
    ((600, 2), (600, 1200)),
    ((700, 3), (700,)),
    ((300, 4), (300,)),
    ((150, 7), (150, 1050)),
    ((7, 6, 5), (1, 42)),
    ((3, 5, 257), (3, 15, 3855)),
    ((2, 2, 1500), (4,)),
    ((2, 1000, 3), (2000, 6000)),
    ((3, 0), (3,)),
    ((0, 4), (0,)),
)
CASES = [(shape, count) for shape, counts in SHAPES for count in counts]
ids = pytest.mark.parametrize(("shape", "count"), CASES, ids=lambda value: str(value).replace(", ", "x"))


def values(count: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Values in [0.1, 1.1)."""
    return (torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1).to(
        dtype
    )


def samples(shape: tuple[int, ...], dtype: torch.dtype, seed: int, strided: bool = False) -> Tensor:
    x = normal(*shape, dtype=dtype, seed=seed)
    return torch.stack([x, x * NAN], -1)[..., 0] if strided else x


def assert_same_bits(op: str, run: Callable[[Callable[..., None]], tuple[Tensor, ...]]) -> None:
    for got, want in zip(run(COMPILED[op]), run(REFERENCE[op]), strict=True):
        assert_equal(got, want)


def perturbed(op: Callable[..., None], x: Tensor, *rest: object) -> tuple[Tensor]:
    out = torch.empty_like(x)
    op(out, x, *rest)
    return (out,)


@ids
@every_level
class TestElementwise:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("strided", [False, True], ids=["dense", "strided"])
    def test_perturb(self, shape, count, dtype, strided):
        x, sigma, alpha = (
            samples(shape, dtype, 0, strided),
            values(count, 1),
            values(shape[0], 2, torch.float64),
        )
        seeds, names = torch.arange(shape[0]) * 3 + 2**40, torch.arange(shape[0]) * 7 + 1
        assert_same_bits("perturb", lambda op: perturbed(op, x, NAN, NAN, NAME, alpha, sigma))
        assert_same_bits("perturb", lambda op: perturbed(op, x, NAN, 0.5, NAME, sigma, None, seeds, names))
        assert_same_bits(
            "perturb", lambda op: perturbed(op, x, 1.0, NAN, NAME, None, sigma.double() * 1.000000001)
        )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("options", ["plain", "bounds", "all"])
    def test_steps(self, shape, count, dtype, options):
        x, g = samples(shape, dtype, 0), samples(shape, dtype, 1)
        one, other = values(count, 2), values(shape[0], 3)
        bounds = (-0.5, 0.7, 0.9) if options in ("bounds", "all") else (None, None, None)
        mask = normal(*shape, seed=4) > 0 if options in ("mask", "all") else None

        def step(op: Callable[..., None], *coefficients: object) -> tuple[Tensor, ...]:
            out, mean = torch.empty_like(x), torch.empty_like(x) if options in ("mean", "all") else None
            op(out, x, g, *coefficients, mean, mask, *bounds, None, None)
            return (out,) if mean is None else (out, mean)

        assert_same_bits("affine_step", lambda op: step(op, NAN, 0.3, NAN, NAME, one, None, other))
        assert_same_bits("affine_step", lambda op: step(op, 0.9, NAN, NAN, NAME, None, other, one))
        assert_same_bits("langevin_step", lambda op: step(op, NAN, NAN, NAME, one, other))
        assert_same_bits("langevin_step", lambda op: step(op, 0.1, NAN, NAME, None, one))


def loss_arguments(
    shape: tuple[int, ...], count: int, dtype: torch.dtype, reduction: int, over_kappa2: bool, finer: str
) -> tuple[Tensor, list[object]]:
    """Returns ``pred``, and the arguments behind it: the coefficient ``finer`` has ``count``
    values, the others one a sample."""
    names = ("kappa", "lam", "mu", "weight")
    rows = [values(count if name == finer else shape[0], 5 + i) for i, name in enumerate(names)]
    x0 = samples(shape, dtype, 9)
    return samples(shape, dtype, 8), [
        NAN,
        NAN,
        NAN,
        NAN,
        0.5,
        over_kappa2,
        reduction,
        NAME,
        *rows,
        None,
        x0,
        None,
        None,
        over_kappa2,
    ]


def of_loss(
    pred: Tensor, arguments: list[object], with_grad: bool, op: Callable[..., None]
) -> tuple[Tensor, Tensor | None]:
    work = torch.float64 if pred.dtype == torch.float64 else torch.float32
    shape = {0: pred.shape, 1: pred.shape[:1]}.get(arguments[6], ())
    loss, grad = torch.empty(shape, dtype=work), torch.empty_like(pred) if with_grad else None
    op(loss, grad, pred, *arguments)
    return loss, grad


HALF_OR_DOUBLE = (torch.bfloat16, torch.float64)


@ids
@every_level
@pytest.mark.parametrize("finer", ["kappa", "lam", "mu", "weight"])
@pytest.mark.parametrize("over_kappa2", [False, True], ids=["", "over_kappa2"])
class TestLoss:
    def test_elementwise_and_gradient(self, shape, count, finer, over_kappa2):
        dtype = HALF_OR_DOUBLE[over_kappa2]
        pred, none = loss_arguments(shape, count, dtype, 0, over_kappa2, finer)
        assert_same_bits("denoising_loss", lambda op: of_loss(pred, none, False, op)[:1])
        work = torch.float64 if dtype == torch.float64 else torch.float32

        def gradient(op: Callable[..., None], above: Tensor, reduction: int) -> tuple[Tensor]:
            grad = torch.empty_like(pred)
            op(grad, above, pred, *none[:6], reduction, *none[7:])
            return (grad,)

        assert_same_bits("denoising_grad", lambda op: gradient(op, normal(*shape, dtype=work, seed=11), 0))
        assert_same_bits("denoising_grad", lambda op: gradient(op, normal(shape[0], dtype=work, seed=12), 1))
        assert_same_bits("denoising_grad", lambda op: gradient(op, torch.tensor(0.7, dtype=work), 4))

    def test_sums(self, shape, count, finer, over_kappa2):
        dtype = HALF_OR_DOUBLE[not over_kappa2]
        pred, arguments = loss_arguments(shape, count, dtype, 1, over_kappa2, finer)
        loss, grad = of_loss(pred, arguments, True, COMPILED["denoising_loss"])
        want, want_grad = of_loss(pred, arguments, True, REFERENCE["denoising_loss"])
        torch.testing.assert_close(loss, want, rtol=1e-14 if dtype == torch.float64 else 1e-5, atol=0)
        assert_equal(grad, want_grad)
        assert_equal(of_loss(pred, arguments, False, COMPILED["denoising_loss"])[0], loss)
        for reduction in (2, 3, 4) if len(pred) else ():
            arguments[6] = reduction
            total = of_loss(pred, arguments, True, COMPILED["denoising_loss"])[0]
            want = of_loss(pred, arguments, True, REFERENCE["denoising_loss"])[0]
            if pred.numel() or reduction != 3:
                torch.testing.assert_close(
                    total, want, rtol=1e-13 if dtype == torch.float64 else 1e-5, atol=0
                )


@every_level
@pytest.mark.parametrize("shape", [(600, 1), (40, 3), (64, 2, 9), (8, 5, 200), (6, 2, 1500)], ids=str)
@pytest.mark.parametrize("finer", ["kappa", "lam", "mu", "weight"])
@pytest.mark.parametrize("per", ["token", "element"])
def test_a_sample_has_the_same_loss_in_any_batch(shape, finer, per):
    tokens = math.prod(shape[1:2] if per == "token" else shape[1:])
    pred, arguments = loss_arguments(shape, shape[0] * tokens, torch.float32, 1, True, finer)
    loss, grad = of_loss(pred, arguments, True, COMPILED["denoising_loss"])
    for b in (0, 3, shape[0] - 1):
        few = list(arguments)
        few[7] = NAME + torch.tensor([0, b, 0, 0])
        for i in range(8, 12):
            rows = arguments[i].reshape(shape[0], -1)[b : b + 1].reshape(-1)
            few[i] = rows
        few[13] = arguments[13][b : b + 1]
        one, one_grad = of_loss(pred[b : b + 1], few, True, COMPILED["denoising_loss"])
        assert_equal(one, loss[b : b + 1])
        assert_equal(one_grad, grad[b : b + 1])


def test_sums_do_not_depend_on_threads():
    pred, arguments = loss_arguments((300, 2, 300), 600, torch.float32, 4, False, "weight")
    alone = of_loss(pred, arguments, True, COMPILED["denoising_loss"])
    torch.set_num_threads(2)
    together = of_loss(pred, arguments, True, COMPILED["denoising_loss"])
    torch.set_num_threads(1)
    assert_equal(alone, together)


def test_equal_weights_are_no_weights():
    """Coefficients per element give the bits of coefficients per sample where the values are the
    same."""
    pred, arguments = loss_arguments((500, 3), 500, torch.float32, 1, False, "lam")
    coarse = of_loss(pred, arguments, True, COMPILED["denoising_loss"])
    for i in (8, 9, 10):
        arguments[i] = arguments[i].repeat_interleave(3)
    assert_equal(of_loss(pred, arguments, True, COMPILED["denoising_loss"]), coarse)


BAD = torch.ones(5)


@pytest.mark.parametrize(
    ("op", "name", "arguments"),
    [
        ("perturb", "alpha", (1.0, 1.0, NAME, BAD)),
        ("perturb", "sigma", (1.0, 1.0, NAME, None, BAD)),
        ("affine_step", "a", (torch.ones(4, 3), 1.0, 1.0, 1.0, NAME, BAD)),
        ("affine_step", "b", (torch.ones(4, 3), 1.0, 1.0, 1.0, NAME, None, BAD)),
        ("affine_step", "c", (torch.ones(4, 3), 1.0, 1.0, 1.0, NAME, None, None, BAD)),
        ("langevin_step", "step_size", (torch.ones(4, 3), 1.0, 1.0, NAME, BAD)),
        ("langevin_step", "temperature", (torch.ones(4, 3), 1.0, 1.0, NAME, None, BAD)),
    ],
)
def test_a_count_that_does_not_divide(op, name, arguments):
    out = torch.zeros(4, 3)
    with pytest.raises(
        ValueError, match=rf"{op}: {name} must have one value for all, or .* divides 12, got 5"
    ):
        COMPILED[op](out, torch.ones(4, 3), *arguments)
    assert_equal(out, torch.zeros(4, 3))


@pytest.mark.parametrize(("index", "name"), [(8, "kappa"), (9, "lam"), (10, "mu"), (11, "weight")])
def test_a_loss_coefficient_whose_count_does_not_divide(index, name):
    pred, arguments = loss_arguments((4, 3), 4, torch.float32, 4, False, "kappa")
    arguments[index] = BAD
    with pytest.raises(
        ValueError, match=rf"denoising_loss: {name} must have one value for all, or .* divides 12, got 5"
    ):
        of_loss(pred, arguments, True, COMPILED["denoising_loss"])


def test_sigma_of_zero():
    """sigma = 0 is a legal noise level, except where the loss divides by it."""
    x, sigma = normal(4, 3), torch.tensor([0.0, 0.5, 0.0, 1.0])
    (got,) = perturbed(COMPILED["perturb"], x, 1.0, NAN, NAME, None, sigma)
    assert_equal(got[sigma == 0], x[sigma == 0])
    assert_same_bits("perturb", lambda op: perturbed(op, x, 1.0, NAN, NAME, None, sigma))
    with pytest.raises(ValueError, match="perturb: sigma must be >= 0 and finite, got -1 for sample 3"):
        perturbed(COMPILED["perturb"], x, 1.0, NAN, NAME, None, torch.tensor([0.0, 0.5, 0.0, -1.0]))
    pred, arguments = loss_arguments((4, 3), 4, torch.float32, 1, False, "kappa")
    arguments[8], arguments[-1] = sigma, True
    loss, grad = of_loss(pred, arguments, True, COMPILED["denoising_loss"])
    want, want_grad = of_loss(pred, arguments, True, REFERENCE["denoising_loss"])
    torch.testing.assert_close(loss, want, rtol=1e-6, atol=0)
    assert_equal(grad, want_grad)
    arguments[5] = True
    with pytest.raises(ValueError, match="dsm_loss: sigma must be > 0 and finite, got 0 for sample 0"):
        of_loss(pred, arguments, True, COMPILED["denoising_loss"])


def test_the_public_noise_is_unchanged():
    """The kernels lay out many narrow samples at a time; their noise is the one that they have
    one by one."""
    noise = pyebm.Noise(seed=9, first_sample=3)
    for width in (1, 2, 3, 4, 5):
        whole = noise.randn((700, width))
        for b in (0, 255, 256, 699):
            assert_equal(noise.shard(first_sample=3 + b).randn((1, width)), whole[b : b + 1])
