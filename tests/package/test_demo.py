"""The demo runs, draws every picture, and measures the figures that it reports."""

import importlib
import json
import math
import sys

import pytest
import torch

import pyebm

for needed in ("sklearn", "matplotlib", "rich"):
    pytest.importorskip(needed, reason="the demo's dependencies: pip install 'pyebm-kernels[demo]'")

demo = importlib.import_module("pyebm.demo")
digits, quality, toy = demo.digits, demo.quality, demo.toy

PICTURES = ("annealing", "denoising", "digits", "gibbs", "langevin", "loss", "score_field", "score_matching")


@pytest.fixture
def one_thread():
    """One thread, as in the demo: on a busy machine, threads that wait for each other cost far
    more than these small tensors."""
    with demo._one_thread():
        yield


def test_quick_run(tmp_path):
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    numbers = demo.run(tmp_path / "new" / "out", quick=True, seed=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)

    for name in PICTURES:
        image = importlib.import_module("matplotlib.image").imread(tmp_path / "new" / "out" / f"{name}.png")
        assert min(image.shape[:2]) > 300, name
        assert image[..., :3].std() > 0.02, name
    assert json.loads((tmp_path / "new" / "out" / "quality.json").read_text()) == numbers

    assert all(math.isfinite(value) for value in numbers.values())
    assert abs(numbers["mmd2_real"]) < 2e-3 < numbers["mmd2_noise"]
    assert numbers["nearest_held_out_real"] < numbers["nearest_held_out_noise"]
    assert numbers["nearest_train_real"] < numbers["nearest_train_noise"]
    assert numbers["sure_noise"] < 0.5 < numbers["sure_real"]
    assert numbers["classifier_accuracy"] > 0.9
    assert 0 < numbers["loss_held_out"] < 32  # half of 64 pixels is the loss of a zero score
    assert numbers["plane_score_error"] < 1  # 1 is the error of a zero score, too


@pytest.mark.usefixtures("one_thread")
def test_training_and_sampling_follow_the_seed():
    data = digits.load(0)

    def run(seed):
        net, losses = digits.train(data.train, 5, seed=seed, batch=32)
        return losses, digits.sample(net, 8, seed=seed, levels=6, steps_each=2)

    losses, states = run(0)
    again, states_again = run(0)
    assert losses == again
    assert torch.equal(states, states_again)
    assert states.shape == (12, 8, 1, 8, 8)
    assert losses != run(1)[0]


def test_split_loses_no_digit():
    data = digits.load(3)
    assert len(data.train) + len(data.held_out) == 1797
    assert len(data.held_out) == len(data.held_out_labels) == 359
    assert data.train.min() == -1
    assert data.train.max() == 1


@pytest.mark.usefixtures("one_thread")
def test_mmd2_is_unbiased_and_sees_a_shift():
    generator = torch.Generator().manual_seed(0)
    same = torch.tensor([quality.mmd2(*torch.randn(2, 30, 4, generator=generator), 2.0) for _ in range(200)])
    assert same.mean().abs() < 4 * same.std() / 200**0.5
    assert (
        quality.mmd2(
            torch.randn(200, 4, generator=generator), 1 + torch.randn(200, 4, generator=generator), 2.0
        )
        > 0.1
    )


@pytest.mark.usefixtures("one_thread")
def test_mixture_is_normalised_and_its_score_is_the_gradient():
    mixture = toy.petals()
    line = torch.linspace(-6, 6, 241)
    mass = torch.exp(-mixture.energy(torch.cartesian_prod(line, line))).sum() * 0.05**2
    assert abs(float(mass) - 1) < 1e-3
    x = mixture.sample(50, torch.Generator().manual_seed(0)).double()
    exact = toy.Mixture(*(t.double() for t in (mixture.weights, mixture.means, mixture.covariances)))
    for axis in torch.eye(2, dtype=torch.float64):
        slope = (exact.energy(x + 1e-5 * axis) - exact.energy(x - 1e-5 * axis)) / 2e-5
        torch.testing.assert_close(exact.score(x) @ axis, -slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib", "rich"])
def test_missing_dependency_says_what_to_install(monkeypatch, missing):
    for name in [
        name
        for name in sys.modules
        if name == "pyebm.demo" or name.startswith(("pyebm.demo.", f"{missing}."))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"needs {missing}.*pip install 'pyebm-kernels\[demo\]'"):
        importlib.import_module("pyebm.demo")


def test_energies_are_learnt_drawn_and_measured(tmp_path, monkeypatch):
    monkeypatch.setitem(vars(demo.energies), "DATA_SETS", {"rings": demo.energies.rings})
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    numbers = demo.run_energies(tmp_path / "out", quick=True, seed=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)
    for name in ("energies", "energy_losses", "energy_digits"):
        image = importlib.import_module("matplotlib.image").imread(tmp_path / "out" / f"{name}.png")
        assert image[..., :3].std() > 0.02, name
    assert json.loads((tmp_path / "out" / "energies.json").read_text()) == numbers
    assert set(numbers["rings"]) == {"DSM", "sliced", "CD-10", "PCD"}
    assert set(numbers) == {"rings", "digits"}
    assert numbers["digits"]["PCD"]["nearest_held_out_samples"] < 20
    for row in numbers["rings"].values():
        assert -4.2 < row["likelihood"] < -2.4  # the bounds are a uniform's on the square, and the rings' own
        assert row["seconds"] > 0
        assert row["eager_seconds"] > 0


def test_the_digits_chains_keep_the_width_of_the_noise():
    """With its network at zero, the energy is the quadratic of a normal of width sigma."""
    energy = pyebm.targets.MLPEnergy(torch.nn.Linear(64, 1), quadratic=0.5)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.zero_()
    y = demo.energy_digits.chain(energy, 0.2)(torch.zeros(512, 64), 30, noise=pyebm.Noise(0))
    assert abs(float(y.std()) / 0.2 - 1) < 0.01


@pytest.mark.usefixtures("one_thread")
def test_quadrature_normalises():
    """With its network at zero, the energy is the quadratic of a standard normal."""
    energy = demo.energies.network(0)
    energy.quadratic.fill_(0.5)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.zero_()
    log_p, log_z = demo.energies.log_density(energy)
    assert log_z == pytest.approx(math.log(2 * math.pi), abs=1e-3)
    assert float(log_p.exp().sum()) * (2 * demo.energies.REACH / demo.energies.POINTS) ** 2 == pytest.approx(
        1
    )
    assert demo.energies.likelihood(energy, torch.zeros(1, 2)) == pytest.approx(
        -math.log(2 * math.pi), abs=1e-3
    )
