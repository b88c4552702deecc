"""torch.manual_seed governs every adapter whose noise is unset, and no two uses of one Noise share
their numbers."""

from __future__ import annotations

import functools
import gc
import itertools
import pickle

import pytest
import torch
from cases import assert_equal, normal
from peers import package
from sdes import VE

from pyebm import Noise
from pyebm.integrations import _draws, edm, ncsnv2, score_sde

SHAPE = (4, 3, 8, 8)
SIGMAS = torch.tensor([1.0, 0.5, 0.1])
TIMES = [torch.full((4,), t) for t in (0.9, 0.5, 0.1)]


class Net(torch.nn.Module):
    def forward(self, x, *_, **__):
        return -0.5 * x


def score(x, _t):
    return -x


# --- one object with its noise unset, run after run


def edm_run():
    loss = edm.EDMLoss()
    return lambda: loss(Net(), normal(*SHAPE))


def ncsnv2_run():
    return lambda: torch.stack(ncsnv2.anneal_Langevin_dynamics(normal(*SHAPE), score, SIGMAS, 2))


def sde_loss_run():
    loss = score_sde.get_sde_loss_fn(VE(), True)
    return lambda: loss(Net(), normal(*SHAPE))


def pc_run():
    predictor = score_sde.predictors()["reverse_diffusion"]
    corrector = score_sde.correctors()["langevin"]
    return lambda: pc_sampler(predictor, corrector)


def pc_sampler(predictor, corrector):
    """score_sde's sampler, which makes a new predictor and a new corrector at every step."""
    x, states = normal(*SHAPE), []
    for t in TIMES:
        x, _ = corrector(VE(), score, 0.1, 2).update_fn(x, t)
        x, _ = predictor(VE(), score).update_fn(x, t)
        states.append(x)
    return torch.stack(states)


def diffusers_run(name):
    package("diffusers")
    from pyebm.integrations import diffusers as ours

    scheduler = getattr(ours, name)(num_train_timesteps=50)
    scheduler.set_timesteps(5)

    def run():
        x = normal(*SHAPE)
        for t in scheduler.timesteps:
            if name == "DDPMScheduler":
                x = scheduler.step(-x, t, x).prev_sample
            else:
                x = scheduler.step_correct(-x, x).prev_sample
                x = scheduler.step_pred(-x / 1e3, t, x).prev_sample
        return x

    return run


def torchebm_run():
    package("torchebm")
    from torchebm.core import DoubleWellModel
    from torchebm.samplers import LangevinDynamics

    from pyebm.integrations.torchebm import EulerMaruyamaIntegrator

    sampler = LangevinDynamics(DoubleWellModel(), step_size=0.01, integrator=EulerMaruyamaIntegrator())
    return lambda: sampler.sample(normal(8, 2), n_steps=3)


def torchebm_loss_run():
    package("torchebm")
    from torchebm.core import GaussianModel

    from pyebm.integrations.torchebm import DenoisingScoreMatching

    loss = DenoisingScoreMatching(GaussianModel(torch.zeros(2), torch.eye(2)), noise_scale=0.3)
    return lambda: loss(normal(8, 2))


def ebmkit_run():
    package("ebm")
    from pyebm.integrations.ebmkit import LangevinDynamics

    sampler = LangevinDynamics(step_size=0.1, steps=3)
    return lambda: sampler.sample(lambda x: 0.5 * x.square().sum(1), normal(8, 2))


def k_diffusion_run():
    package("k_diffusion")
    from pyebm.integrations.k_diffusion import noise_sampler

    draw = noise_sampler(torch.zeros(4, 3))
    return lambda: draw(1.0, 0.5)


RUNS = {
    "EDMLoss": edm_run,
    "anneal_Langevin_dynamics": ncsnv2_run,
    "get_sde_loss_fn": sde_loss_run,
    "predictors and correctors": pc_run,
    "DDPMScheduler": lambda: diffusers_run("DDPMScheduler"),
    "ScoreSdeVeScheduler": lambda: diffusers_run("ScoreSdeVeScheduler"),
    "EulerMaruyamaIntegrator": torchebm_run,
    "DenoisingScoreMatching": torchebm_loss_run,
    "LangevinDynamics": ebmkit_run,
    "noise_sampler": k_diffusion_run,
}


@pytest.mark.parametrize("name", RUNS)
def test_the_same_seed_gives_the_same_run_again(name):
    run = RUNS[name]()
    torch.manual_seed(3)
    first, second = run(), run()
    torch.manual_seed(3)
    assert_equal(run(), first)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()  # a checkpoint between two runs
    third = run()
    torch.set_rng_state(state)
    assert_equal(run(), third)


# --- one Noise, handed to several


def drawn(update, *options, x=None):
    """The noise of an update of a VE state: what it adds to the mean, up to a factor."""
    x, mean = update(VE(), lambda x, _: torch.zeros_like(x) + 1e-3, *options).update_fn(
        normal(*SHAPE), TIMES[0]
    )
    noise = (x - mean).flatten()
    return noise / noise.norm()


def alike(a, b):
    return abs(torch.dot(a, b)) > 0.5


def test_a_class_handed_a_noise_does_not_repeat_it():
    """score_sde makes a new object at each step."""
    noise = Noise(5)
    corrector = functools.partial(score_sde.LangevinCorrector, noise=noise)
    predictor = functools.partial(score_sde.ReverseDiffusionPredictor, noise=noise)
    draws = [drawn(corrector, 0.1, 1), drawn(predictor), drawn(corrector, 0.1, 1), drawn(predictor)]
    want = [Noise(5, step=k).randn(SHAPE).flatten() for k in range(4)]
    for got, z in zip(draws, want, strict=True):
        torch.testing.assert_close(got, z / z.norm(), rtol=1e-3, atol=1e-4)
    equal = functools.partial(
        score_sde.ReverseDiffusionPredictor, noise=Noise(5)
    )  # another one, from its start
    assert_equal(drawn(equal), drawn(functools.partial(score_sde.ReverseDiffusionPredictor, noise=Noise(5))))


def test_the_shared_draws_go_with_their_noise():
    before = len(_draws._SHARED)
    noise = Noise(6)
    score_sde.LangevinCorrector(VE(), score, 0.1, 1, noise=noise)
    assert len(_draws._SHARED) == before + 1
    del noise
    gc.collect()
    assert len(_draws._SHARED) == before


def test_training_evaluation_and_sampling_share_no_numbers():
    """All four are given one Noise, as docs/integrations.md has it."""
    noise, seen = Noise(5), {}

    class Keeping(torch.nn.Module):
        def forward(self, x, _):
            self.x = x
            return -x

    x = normal(*SHAPE)
    for train in (True, False):
        for get in (score_sde.get_sde_loss_fn, score_sde.get_smld_loss_fn):
            net, made = Keeping(), get(VE(), train, noise=noise)
            made(net, x)
            z = ((net.x - x) / (net.x - x).flatten(1).norm(dim=1)[:, None, None, None]).flatten()
            seen[train] = z / z.norm()
    seen["predictor"] = drawn(score_sde.predictors(noise)["euler_maruyama"])
    seen["corrector"] = drawn(score_sde.correctors(noise)["langevin"], 0.1, 1)
    for a, b in itertools.combinations(seen, 2):
        assert not alike(seen[a], seen[b]), (a, b)


# --- a run that is resumed goes on in the noise


def test_a_resumed_run_goes_on():
    """In a new process the loss is made anew: its Noise starts at the step that was reached."""
    x, noise = normal(*SHAPE), Noise(5)
    whole = score_sde.get_sde_loss_fn(VE(), True, noise=noise)
    values = [seeded_loss(whole, k, x) for k in range(4)]
    resumed = score_sde.get_sde_loss_fn(VE(), True, noise=Noise(5, step=2))
    assert_equal(torch.stack(values[2:]), torch.stack([seeded_loss(resumed, k, x) for k in (2, 3)]))


def seeded_loss(loss_fn, k, x):
    torch.manual_seed(k)
    return loss_fn(Net(), x)


def test_a_resumed_run_of_edm_goes_on():
    """EDM makes its loss of options that it writes as JSON, so there the Noise is two ints."""
    x, loss = normal(*SHAPE), edm.EDMLoss(noise=7)
    values = [loss(Net(), x) for _ in range(3)]
    assert_equal(values[0], edm.EDMLoss(noise=Noise(7))(Net(), x))
    assert_equal(values[2], edm.EDMLoss(noise=(7, 2))(Net(), x))
    again = edm.EDMLoss(noise=[7, 1])
    again(Net(), x)
    assert_equal(pickle.loads(pickle.dumps(again))(Net(), x), values[2])


def test_a_seed_of_edm_on_each_rank(monkeypatch):
    """Every rank is given the same options, and draws the noise of its own samples."""
    x = normal(*SHAPE)
    whole = edm.EDMLoss(noise=Noise(7))(Net(), torch.cat([x, x]))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert_equal(edm.EDMLoss(noise=7)(Net(), x), whole[4:])


@pytest.mark.parametrize("noise", [True, (1,), (1, 2, 3), [0.5, 1], ("a", 1), 2**64, (1, -1), (1, 2**32)])
def test_a_seed_that_is_none(noise):
    with pytest.raises((TypeError, ValueError), match="noise"):
        edm.EDMLoss(noise=noise)
