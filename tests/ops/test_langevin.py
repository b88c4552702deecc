"""langevin_step, langevin_step_ and affine_step: every option, the same bits on every backend,
and the gradient."""

from __future__ import annotations

import math

import pytest
import torch
from cases import LARGE, assert_equal, column, levels, name_of, normal

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

NOISE = Noise(3, step=4)


def state(shape, dtype=torch.float32, device="cpu"):
    """Returns (x, score, mask) of one shape."""
    mask = normal(*shape, device=device, seed=2) > -0.5
    return (
        normal(*shape, dtype=dtype, device=device),
        3 * normal(*shape, dtype=dtype, device=device, seed=1),
        mask,
    )


def options(batch, mask, device="cpu"):
    """Sets of options, from nothing to everything at once."""
    rows = {
        "step_size": levels(batch, device, seed=1),
        "temperature": levels(batch, device, seed=2, dtype=torch.float64),
    }
    return {
        "plain": {"step_size": 0.1},
        "rows-mean": {**rows, "return_mean": True},
        "bounds": {"step_size": 0.1, "temperature": 0.5, "clamp": (-0.7, 0.4), "score_clip": 1.5},
        "all": {**rows, "clamp": (None, 1.0), "score_clip": 2.0, "mask": mask, "return_mean": True},
    }


def pair(result):
    return result if isinstance(result, tuple) else (result,)


def plain(x, score, step_size, temperature=1.0, clamp=None, score_clip=None, mask=None):
    """The formula of the docstring in plain PyTorch; returns (x', mean)."""
    z = NOISE.randn(x.shape, dtype=x.dtype, device=x.device)
    score = score if score_clip is None else score.clamp(-score_clip, score_clip)
    mean = x + step_size * score
    value = mean + math.sqrt(2 * step_size * temperature) * z
    value = value if clamp is None else value.clamp(*clamp)
    return (value, mean) if mask is None else (torch.where(mask, value, x), torch.where(mask, mean, x))


class TestEqualsTheReference:
    @pytest.mark.parametrize("kind", ["plain", "rows-mean", "bounds", "all"])
    def test_langevin_step(self, backend, device, dtype, shape, kind):
        x, score, mask = state(shape, dtype, device)
        chosen = options(shape[0], mask, device)[kind]
        want = pair(pyebm.langevin_step(x, score, noise=NOISE, backend="reference", **chosen))
        assert_equal(pair(pyebm.langevin_step(x, score, noise=NOISE, backend=backend, **chosen)), want)
        got = pair(pyebm.langevin_step_(x, score, noise=NOISE, backend=backend, **chosen))
        assert got[0] is x
        assert_equal(got, want)

    def test_affine_step(self, backend, device, dtype, shape):
        x, g, mask = state(shape, dtype, device)
        a, b, c = (levels(shape[0], device, seed=seed) - 0.5 for seed in range(3))
        for chosen in (
            {"a": 0.9, "b": -0.2, "c": 0.3},
            {"a": a, "b": b, "c": 0.0, "return_mean": True},
            {"a": a, "b": 1.0, "c": c.double(), "clamp": (-1, 1), "mask": mask, "return_mean": True},
        ):
            got = pyebm.affine_step(x, g, noise=NOISE, backend=backend, **chosen)
            assert_equal(got, pyebm.affine_step(x, g, noise=NOISE, backend="reference", **chosen))

    @pytest.mark.parametrize("shape", LARGE, ids=name_of)
    def test_threads_change_nothing(self, backend, device, threads, shape):
        x, score, mask = state(shape, device=device)
        chosen = options(shape[0], mask, device)["all"]
        assert torch.get_num_threads() == threads
        got = pyebm.langevin_step(x, score, noise=NOISE, backend=backend, **chosen)
        assert_equal(got, pyebm.langevin_step(x, score, noise=NOISE, backend="reference", **chosen))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
class TestEqualsPlainPyTorch:
    """In these dtypes the kernels give PyTorch's bits, because they do the same operations in
    the same order."""

    @pytest.mark.parametrize(
        "chosen",
        [
            {"temperature": 1.0},
            {"temperature": 0.0},
            {"temperature": 0.25},
            {"clamp": (-0.5, 0.5)},
            {"clamp": (None, 0.5)},
            {"clamp": (0, None)},
            {"score_clip": 1.0},
            {"mask": state((6, 5, 7))[2]},
            {"mask": state((6, 1, 1))[2], "clamp": (-0.5, 0.5), "score_clip": 1.0, "temperature": 0.5},
        ],
        ids=lambda chosen: "-".join(chosen),
    )
    def test_langevin_step(self, backend, device, dtype, chosen):
        x, score, _ = state((6, 5, 7), dtype, device)
        chosen = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in chosen.items()}
        want = plain(x, score, 0.1, **chosen)
        assert_equal(
            pyebm.langevin_step(x, score, 0.1, NOISE, return_mean=True, backend=backend, **chosen), want
        )
        assert_equal(pyebm.langevin_step(x, score, 0.1, NOISE, backend=backend, **chosen), want[0])

    def test_affine_step(self, backend, device, dtype):
        x, g, mask = state((6, 5, 7), dtype, device)
        a, b, c = (column(levels(6, device, seed=seed, dtype=dtype), x) for seed in range(3))
        mean = a * x - b * g
        value = (mean + c * NOISE.randn(x.shape, dtype=dtype, device=device)).clamp(-0.5, 2)
        got = pyebm.affine_step(
            x, g, a, -b, c, NOISE, clamp=(-0.5, 2), mask=mask, return_mean=True, backend=backend
        )
        assert_equal(got, (torch.where(mask, value, x), torch.where(mask, mean, x)))


def test_half_precision_is_float32_rounded_once(backend, device):
    for dtype in (torch.float16, torch.bfloat16):
        x, score, mask = state((6, 5, 7), dtype, device)
        chosen = {"temperature": 0.5, "clamp": (-1, 1), "score_clip": 2.0, "mask": mask, "return_mean": True}
        wide = pyebm.langevin_step(x.float(), score.float(), 0.1, NOISE, backend=backend, **chosen)
        got = pyebm.langevin_step(x, score, 0.1, NOISE, backend=backend, **chosen)
        assert_equal(got, tuple(t.to(dtype) for t in wide))


@pytest.mark.parametrize(
    ("wide", "narrow"), [(torch.float64, torch.float32), (torch.float32, torch.bfloat16)], ids=name_of
)
def test_a_narrower_score_is_widened(backend, device, wide, narrow):
    """Networks under autocast give half-precision scores for float32 states."""
    x, score = normal(4, 9, dtype=wide, device=device), normal(4, 9, dtype=narrow, device=device, seed=1)
    got = pyebm.langevin_step(x, score, 0.1, NOISE, backend=backend)
    assert_equal(got, pyebm.langevin_step(x, score.to(wide), 0.1, NOISE, backend=backend))


def test_batch_split_and_shuffle(backend, device):
    x, score, mask = state((7, 131), device=device)
    eta, order = levels(7, device), torch.tensor([3, 6, 0])
    whole = pyebm.langevin_step(x, score, eta, NOISE, mask=mask, backend=backend)
    for rows, noise in (
        (slice(4, 7), NOISE.shard(first_sample=4)),
        (order, Noise(3, step=4, sample_ids=order)),
    ):
        assert_equal(
            pyebm.langevin_step(x[rows], score[rows], eta[rows], noise, mask=mask[rows], backend=backend),
            whole[rows],
        )


@pytest.mark.parametrize("where", ["x", "score"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_stay_in_their_element(backend, device, dtype, where, value):
    x, score, _ = state((5, 300), dtype, device)
    clean = pyebm.langevin_step(
        x, score, 0.1, NOISE, clamp=(-1, 1), score_clip=0.5, return_mean=True, backend=backend
    )
    at = torch.zeros(5, 300, dtype=torch.bool, device=device)
    at[[0, 2, 4], [0, 150, 299]] = True
    (x if where == "x" else score)[at] = value
    got = pyebm.langevin_step(
        x, score, 0.1, NOISE, clamp=(-1, 1), score_clip=0.5, return_mean=True, backend=backend
    )
    for new, old in zip(got, clean, strict=True):
        assert_equal(new[~at], old[~at])
        assert new[at].isnan().all() == math.isnan(value)
    if math.isinf(value) and where == "x":
        assert_equal(got[0][at], torch.full_like(got[0][at], math.copysign(1, value)))  # the clamp bounds it
    masked = pyebm.langevin_step(x, score, 0.1, NOISE, mask=~at, backend=backend)
    assert_equal(masked[at], x[at], equal_nan=True)


def test_neither_input_changes(backend, device):
    x, score, _ = state((4, 9), device=device)
    pyebm.langevin_step(x, score, 0.1, NOISE, backend=backend)
    pyebm.langevin_step_(x.clone(), score, 0.1, NOISE, backend=backend)
    assert_equal((x, score), state((4, 9), device=device)[:2])


class TestInPlace:
    def test_score_may_be_x_itself(self, backend, device):
        x = normal(5, 1031, device=device)
        want = pyebm.langevin_step(x, x.clone(), 0.1, NOISE, backend=backend)
        assert_equal(pyebm.langevin_step_(x, x, 0.1, NOISE, backend=backend), want)

    @pytest.mark.parametrize("layout", ["ahead", "behind", "transposed", "rows", "columns"])
    def test_score_in_the_memory_of_x_is_right_or_refused(self, backend, device, layout):
        memory = normal(65, 128, device=device)
        x, score = {
            "ahead": (memory[:64], memory[1:]),
            "behind": (memory[1:], memory[:64]),
            "transposed": (memory[:64, :64], memory[:64, :64].t()),
            "rows": (memory[1:, ::2], memory[:64, ::2]),
            "columns": (memory[:, ::2], memory[:, 1::2]),  # interleaved: no element is shared
        }[layout]
        before = memory.clone()
        want = pyebm.langevin_step(x, score, 0.1, NOISE, backend=backend)
        try:
            got = pyebm.langevin_step_(x, score, 0.1, NOISE, backend=backend)
        except ValueError as error:
            assert "overlap" in str(error)  # noqa: PT017 (both outcomes are right)
            assert_equal(memory, before)
        else:
            assert_equal(got, want)

    def test_inference_mode(self, backend, device):
        x = normal(4, 9, device=device)
        want = pyebm.langevin_step(x, -x, 0.1, NOISE, backend=backend)
        with torch.inference_mode():
            assert_equal(pyebm.langevin_step_(x.clone(), -x, 0.1, NOISE, backend=backend), want)

    def test_autograd_notices(self, backend, device):
        """A tensor that a graph has saved must not change behind its back: torch raises at
        backward, as for x.add_."""
        x = normal(4, 9, device=device, grad=True) * 1.0
        energy = x.square().sum()
        with torch.no_grad():
            pyebm.langevin_step_(x, -x, 0.1, NOISE, backend=backend)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            energy.backward()


class TestGradient:
    CHOICES = (
        {},
        {"clamp": (-1, 1), "score_clip": 2.0},
        {"mask": normal(4, 5, seed=2) > 0, "temperature": 0.5},
        {"return_mean": True, "score_clip": 1.0},
    )

    @pytest.mark.parametrize("chosen", CHOICES, ids=lambda chosen: "-".join(chosen) or "plain")
    def test_gradcheck(self, backend, device, chosen):
        x, score = (normal(4, 5, dtype=torch.float64, device=device, seed=seed, grad=True) for seed in (0, 1))
        chosen = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in chosen.items()}

        def step(x, score):
            return pyebm.langevin_step(x, score, levels(4, device), NOISE, backend=backend, **chosen)

        torch.autograd.gradcheck(step, (x, score))
        want = [t.detach() for t in pair(step(x.detach(), score.detach()))]
        assert_equal([t.detach() for t in pair(step(x, score))], want)

    def test_equals_plain_pytorch(self, backend, device):
        """Differentiates through two steps and a score that depends on x, and compares with the
        eager expression."""

        def gradient(step):
            start = x = normal(4, 5, device=device, grad=True)
            for _ in range(2):
                x = step(x, -(x**3))
            return torch.autograd.grad(0.7 * x.square().sum(), start)[0]

        got = gradient(
            lambda x, score: pyebm.langevin_step(x, score, 0.1, NOISE, clamp=(-1, 1), backend=backend)
        )
        want = gradient(lambda x, score: plain(x, score, 0.1, clamp=(-1, 1))[0])
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)

    def test_same_bits_with_and_without(self, backend, device, dtype):
        x, score, mask = state((5, 33), dtype, device)
        for chosen in options(5, mask, device).values():
            without = pair(pyebm.langevin_step(x, score, noise=NOISE, backend=backend, **chosen))
            with_x = pair(
                pyebm.langevin_step(x.clone().requires_grad_(), score, noise=NOISE, backend=backend, **chosen)
            )
            with_score = pair(
                pyebm.langevin_step(x, score.clone().requires_grad_(), noise=NOISE, backend=backend, **chosen)
            )
            assert_equal([t.detach() for t in (*with_x, *with_score)], [*without, *without])
