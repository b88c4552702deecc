"""Langevin and AnnealedLangevin equal loops by hand, stop and resume, and leave alone what is
not theirs."""

from __future__ import annotations

import itertools
import random
from functools import partial

import pytest
import torch
from cases import assert_equal, levels, normal
from torch import nn

import pyebm
from pyebm import Noise, _ops
from pyebm.samplers import AnnealedLangevin, Langevin

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

SIGMAS, EACH, LR = [3.0, 1.0, 0.3], 4, 0.02
MASK = normal(6, 5, seed=9) > 0


def score(x):
    return -torch.sin(x)


def level_score(x, sigma):
    assert sigma.shape == x.shape[:1]
    return -x / (1 + sigma[:, None] ** 2)


def langevin(**options):
    return Langevin(score, levels(6), **options)


def annealed(**options):
    return AnnealedLangevin(level_score, SIGMAS, LR, EACH, **options)


STEPS = len(SIGMAS) * EACH
SAMPLERS = {
    "langevin": langevin,
    "langevin-options": lambda: langevin(temperature=0.5, clamp=(-1, 1), score_clip=0.7, mask=MASK),
    "annealed": annealed,
    "annealed-options": lambda: annealed(temperature=0.5, clamp=(-1, 1), score_clip=0.7, mask=MASK),
    "annealed-no-denoise": lambda: annealed(denoise=False),
}


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    return SAMPLERS[request.param]()


class TestEqualsTheLoop:
    """The samplers are loops around langevin_step and do nothing else."""

    @pytest.mark.parametrize(
        "options", [{}, {"temperature": 0.5, "clamp": (-1, 1), "score_clip": 0.7, "mask": MASK}]
    )
    def test_langevin(self, dtype, options):
        x0, noise = normal(6, 5, dtype=dtype), Noise(1, step=7, stream=2)
        x = x0
        for k in range(10):
            x = pyebm.langevin_step(x, score(x), levels(6), Noise(1, step=7 + k, stream=2), **options)
        assert_equal(Langevin(score, levels(6), **options)(x0, 10, noise=noise), x)

    @pytest.mark.parametrize("denoise", [True, False])
    @pytest.mark.parametrize(
        "options", [{}, {"temperature": 0.5, "clamp": (-1, 1), "score_clip": 0.7, "mask": MASK}]
    )
    def test_annealed(self, dtype, options, denoise):
        x0, work = normal(6, 5, dtype=dtype), torch.promote_types(dtype, torch.float32)
        x, step = x0, 0

        def score_at(x, sigma):
            return level_score(x, torch.full((6,), sigma, dtype=work)).to(dtype)

        for sigma in SIGMAS:
            for _ in range(EACH):
                x = pyebm.langevin_step(
                    x, score_at(x, sigma), LR * (sigma / SIGMAS[-1]) ** 2, Noise(1, step=step), **options
                )
                step += 1
        if denoise:
            cold = {**options, "temperature": 0.0}
            x = pyebm.langevin_step(x, score_at(x, SIGMAS[-1]), SIGMAS[-1] ** 2, Noise(1), **cold)
        sampler = AnnealedLangevin(
            lambda x, s: level_score(x, s).to(dtype), SIGMAS, LR, EACH, denoise, **options
        )
        assert_equal(sampler(x0, noise=Noise(1)), x)
        assert len(sampler) == STEPS

    @pytest.mark.parametrize(
        "noise",
        [
            Noise(1, step=5),
            Noise(1, step=2**32 - 2100),
            Noise(torch.arange(3)),
            Noise(1, sample_ids=[7, 0, 7]),
        ],
    )
    def test_a_long_run(self, noise):
        """The bits do not depend on how many steps a sampler prepares at once, in long runs and
        up to the last step there is."""
        x = y = normal(3, 2)
        for k in range(2100):
            x = pyebm.langevin_step(x, score(x), 0.1, noise.at(step=noise.step + k))
        assert_equal(Langevin(score, 0.1)(y, 2100, noise=noise), x)

    @pytest.mark.parametrize("options", [{}, {"temperature": levels(6, seed=3), "clamp": (-1, 1)}])
    def test_a_target_s_chain(self, backend, device, dtype, options, monkeypatch):
        """One launch runs all steps and kept states; with a callback, one launch runs each step:
        all with the loop's bits."""
        target = pyebm.targets.DoubleWell().to(device)
        if "langevin_chain" not in _ops.kernels(backend, torch.empty(0, device=device)):
            pytest.skip(f"backend {backend} has no langevin_chain yet")
        options = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in options.items()} | {
            "backend": backend
        }
        x0, noise, calls = (
            normal(6, 5, dtype=dtype, device=device),
            Noise(1, step=7, sample_ids=[5, 0, 3, 2, 9, 9]),
            [],
        )
        chain, loop = (
            Langevin(target, 0.01, **options),
            Langevin(partial(target.score, backend=backend), 0.01, **options),
        )
        kernels = dict(_ops.kernels(backend, x0))
        counted = kernels | {
            "langevin_chain": lambda *args: calls.append(args[3]) or kernels["langevin_chain"](*args)
        }
        monkeypatch.setattr(_ops, "kernels", lambda *_: counted)
        assert_equal(chain(x0, 10, noise=noise), loop(x0, 10, noise=noise))
        for thin in (1, 3, 10, 11):
            one, many = (sampler(x0, 10, noise=noise, thin=thin) for sampler in (chain, loop))
            assert_equal((one.x, one.states), (many.x, many.states))
        assert calls == [10] * 5
        seen = [
            sampler(x0, 10, noise=noise, thin=2, callback=lambda k, *_: k == 5) for sampler in (chain, loop)
        ]
        assert_equal((seen[0].x, seen[0].states), (seen[1].x, seen[1].states))
        assert calls[5:] == [1] * 5

    def test_denoising_adds_the_score_without_noise(self):
        x0 = normal(6, 5)
        x = annealed(denoise=False)(x0, noise=Noise(1))
        want = x + 0.3**2 * level_score(x, torch.full((6,), 0.3))
        torch.testing.assert_close(annealed()(x0, noise=Noise(1)), want, rtol=1e-6, atol=1e-7)

    def test_inpainting(self):
        """As in ncsnv2, known elements carry the level's own noise, from stream + 1, when the
        score sees them, and none in the end."""
        x, known = normal(6, 5), normal(6, 5, seed=4)
        sampler = annealed(mask=MASK, known=known)
        got = sampler(x, noise=Noise(1), thin=1).states
        for k in range(STEPS):
            sigma = sampler.sigma_at(k)
            x = torch.where(MASK, x, pyebm.perturb(known, sigma, Noise(1, step=k, stream=1)))
            step = pyebm.langevin_step(
                x, level_score(x, torch.full((6,), sigma)), sampler.step_size_at(k), Noise(1, step=k)
            )
            x = torch.where(MASK, step, x)
            if k < STEPS - 1:
                assert_equal(got[k], x)
        x = torch.where(MASK, x + 0.3**2 * level_score(x, torch.full((6,), 0.3)), known)
        torch.testing.assert_close(got[-1], x, rtol=1e-6, atol=1e-7)

    def test_sigmas_as_a_tensor(self):
        given = AnnealedLangevin(level_score, torch.tensor(SIGMAS, dtype=torch.float64), LR, EACH)
        assert_equal(given(normal(6, 5), noise=Noise(1)), annealed()(normal(6, 5), noise=Noise(1)))


class TestStopAndResume:
    @pytest.mark.parametrize("seed", range(5))
    def test_in_random_places(self, sampler, seed):
        """A run that is cut anywhere, and goes on from a saved state, has the same bits."""
        whole = sampler(normal(6, 5), STEPS, noise=Noise(1))
        cuts = sorted({0, STEPS, *random.Random(seed).sample(range(1, STEPS), 3)})
        x, state = normal(6, 5), Noise(1).state_dict()
        for begin, end in itertools.pairwise(cuts):
            noise = Noise.from_state_dict(state)
            x = sampler(x, end - begin, noise=noise)
            state = noise.at(step=end).state_dict()
        assert_equal(x, whole)

    def test_by_a_callback(self, sampler):
        """A callback that returns True stops the run after that step; the run goes on from there
        with the same bits."""
        stopped = sampler(normal(6, 5), STEPS, noise=Noise(1), callback=lambda k, *_: k == 5)
        assert_equal(stopped, sampler(normal(6, 5), 5, noise=Noise(1)))
        assert_equal(
            sampler(stopped, STEPS - 5, noise=Noise(1, step=5)), sampler(normal(6, 5), STEPS, noise=Noise(1))
        )

    def test_the_schedule_knows_its_end(self):
        sampler = annealed()
        half = sampler(normal(6, 5), 5, noise=Noise(1))
        assert_equal(sampler(half, noise=Noise(1, step=5)), sampler(normal(6, 5), noise=Noise(1)))
        assert_equal(sampler(half, 1000, noise=Noise(1, step=5)), sampler(normal(6, 5), noise=Noise(1)))
        assert_equal(sampler(half, noise=Noise(1, step=STEPS)), half)


@pytest.mark.parametrize(
    "sampler", [Langevin(score, 0.1, clamp=(-1, 1)), annealed(score_clip=0.7)], ids=["langevin", "annealed"]
)
def test_batch_split(sampler):
    """Runs the last chains alone with their own ids, as another process would."""
    whole = sampler(normal(6, 5), STEPS, noise=Noise(1))
    assert_equal(sampler(normal(6, 5)[4:], STEPS, noise=Noise(1, first_sample=4)), whole[4:])


class TestWhatComesBack:
    def test_thinned(self, sampler):
        states = [sampler(normal(6, 5), k, noise=Noise(1)) for k in range(STEPS + 1)]
        for thin in (1, 5, STEPS, STEPS + 1):
            got = sampler(normal(6, 5), STEPS, noise=Noise(1), thin=thin).states
            assert got.shape == (STEPS // thin, 6, 5)
            assert_equal(list(got), states[thin::thin])
        stopped = sampler(normal(6, 5), STEPS, noise=Noise(1), thin=2, callback=lambda k, *_: k == 5)
        assert_equal(list(stopped.states), states[2:5:2])
        assert_equal(stopped.x, states[5])
        assert_equal(sampler(stopped.x, noise=stopped.noise, n_steps=STEPS - 5), states[STEPS])

    def test_callback_sees_every_step(self, sampler):
        seen = []
        last = sampler(
            normal(6, 5), STEPS, noise=Noise(1), callback=lambda k, x, _: seen.append((k, x.clone()))
        )
        assert [k for k, _ in seen] == list(range(1, STEPS + 1))
        assert_equal(seen[-1][1], last)
        assert_equal(seen[2][1], sampler(normal(6, 5), 3, noise=Noise(1)))

    def test_no_steps_give_a_copy(self, sampler):
        x0 = normal(6, 5)
        got = sampler(x0, 0, noise=Noise(1))
        assert_equal(got, x0)
        assert got.data_ptr() != x0.data_ptr()

    def test_progress(self, sampler, capsys):
        pytest.importorskip("rich")
        assert_equal(
            sampler(normal(6, 5), STEPS, noise=Noise(1), progress=True),
            sampler(normal(6, 5), STEPS, noise=Noise(1)),
        )
        assert "angevin" in capsys.readouterr().out

    def test_without_a_noise_each_run_is_fresh_but_follows_manual_seed(self, sampler):
        runs = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            runs.append(sampler(normal(6, 5), STEPS))
        assert_equal(runs[0], runs[1])
        assert not torch.equal(runs[0], runs[2])

    def test_empty_batch(self):
        assert Langevin(score, 0.1)(normal(0, 5), 3).shape == (0, 5)
        assert annealed()(normal(0, 5)).shape == (0, 5)


class TestLeftAlone:
    def test_x0(self, sampler):
        for x0 in (normal(6, 5), normal(6, 5, grad=True), normal(1, 5).expand(6, 5), normal(5, 6).t()):
            before = x0.detach().clone()
            sampler(x0, STEPS, noise=Noise(1))
            assert_equal(x0.detach(), before)

    def test_no_graph(self):
        """With a network as the score, and x0 or parameters that require grad, the sampler keeps
        no graph."""
        net, states = nn.Linear(5, 5), []
        sampler = Langevin(net, 0.1)
        last = sampler(normal(6, 5, grad=True), 5, callback=lambda _, x, __: states.append(x.requires_grad))
        assert not any(states)
        assert not last.requires_grad
        assert torch.is_grad_enabled()
        energy = Langevin(lambda x: pyebm.energy_score(lambda x: net(x).square().sum(1), x), 0.1)
        assert not energy(normal(6, 5), 5).requires_grad
        assert net.weight.grad is None

    def test_options_are_not_used_up(self, sampler):
        first = sampler(normal(6, 5), STEPS, noise=Noise(1))
        assert_equal(sampler(normal(6, 5), STEPS, noise=Noise(1)), first)
