"""Diagnostics: ESS and R-hat for chains whose values are known, the Stein discrepancy against
its definition, bounded memory, bad input."""

from __future__ import annotations

import sys

import pytest
import torch
from cases import assert_equal, normal
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyebm import Noise, diagnostics
from pyebm.diagnostics import kernel_stein_discrepancy as ksd
from pyebm.samplers import MALA, AnnealedLangevin, Langevin

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def arviz():
    pytest.importorskip("arviz_base")
    pytest.importorskip("xarray_einstats")
    return pytest.importorskip("arviz_stats")


def chains(correlation: float, draws: int = 2000, count: int = 4) -> Tensor:
    """AR(1) chains of the normal law: the ESS is n (1 - rho) / (1 + rho)."""
    noise = normal(draws, count, 2, dtype=torch.float64)
    x = [noise[0]]
    for z in noise[1:]:
        x.append(correlation * x[-1] + (1 - correlation**2) ** 0.5 * z)
    return torch.stack(x)


@pytest.mark.usefixtures("arviz")
class TestArviz:
    @pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
    def test_ess_of_known_chains(self, correlation):
        got = diagnostics.ess(chains(correlation))
        want = 8000 * (1 - correlation) / (1 + correlation)
        assert got.shape == (2,)
        assert ((got / want - 1).abs() < 0.25).all()

    def test_rhat(self):
        mixed = chains(0.5)
        assert (diagnostics.rhat(mixed) < 1.02).all()
        apart = mixed + torch.arange(4.0)[None, :, None]
        assert (diagnostics.rhat(apart) > 1.3).all()

    def test_a_trajectory(self):
        """Chains and draws keep their places, and the run's statistics come along."""
        run = MALA(lambda x: 0.5 * x.square().flatten(1).sum(1), 0.9)(
            normal(6, 3, 2), 300, noise=Noise(1), thin=3
        )
        tree = run.to_arviz()
        assert dict(tree["posterior"]["x"].sizes) == {"chain": 6, "draw": 100, "x_dim_0": 3, "x_dim_1": 2}
        assert_equal(torch.from_numpy(tree["posterior"]["x"].values[2, 7].copy()), run.states[7, 2].double())
        assert_equal(torch.from_numpy(tree["sample_stats"]["energy"].values.T.copy()), run.info["energy"])
        assert set(tree["sample_stats"].data_vars) == {"energy", "acceptance_rate", "step_size"}
        assert run.ess().shape == run.rhat().shape == (3, 2)
        assert (run.rhat() < 1.1).all()
        assert (run.ess() > 100).all()
        torch.testing.assert_close(run.ess(), diagnostics.ess(run.states))

    def test_statistics_that_are_one_number_a_step(self):
        sampler = AnnealedLangevin(lambda x, s: -x / (1 + s[:, None] ** 2), [2.0, 1.0], 0.1, 5)
        run = sampler(normal(4, 2), noise=Noise(1), thin=2)
        assert run.to_arviz()["sample_stats"]["sigma"].values.tolist() == [[2.0, 2.0, 1.0, 1.0, 1.0]] * 4

    def test_nothing_to_report(self):
        tree = Langevin(torch.neg, 0.1)(normal(4, 2), 10, noise=Noise(1), thin=1).to_arviz()
        assert "sample_stats" not in tree.children

    def test_half_precision(self):
        assert diagnostics.ess(chains(0.5).to(torch.bfloat16)).isfinite().all()


@pytest.mark.parametrize("module", ["arviz_base", "arviz_stats"])
def test_without_arviz_the_extra_is_named(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=rf"this needs {module}: pip install 'pyebm-kernels\[diagnostics\]'"
    ):
        diagnostics.ess(chains(0.5, draws=10))


def test_energy_trace():
    states = normal(5, 4, 3)
    assert_equal(diagnostics.energy_trace(states, lambda x: x.square().sum(1)), states.square().sum(2))


def stein_by_autograd(x: Tensor, score: Tensor, c: float, beta: float) -> Tensor:
    """k0(x_i, x_j) = (grad_x + s(x)).(grad_y + s(y)) k, with every derivative by autograd."""
    n, d = x.shape
    out = torch.empty(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            a, b = x[i].clone().requires_grad_(), x[j].clone().requires_grad_()
            k = (c**2 + (a - b).square().sum()) ** beta
            by_a, by_b = torch.autograd.grad(k, (a, b), create_graph=True)
            mixed = sum(torch.autograd.grad(by_b[m], a, retain_graph=True)[0][m] for m in range(d))
            out[i, j] = (score[i] @ score[j]) * k + score[i] @ by_b + score[j] @ by_a + mixed
    return out.detach()


class TestSteinDiscrepancy:
    @pytest.mark.parametrize(("c", "beta"), [(1.0, -0.5), (0.7, -0.2)])
    @pytest.mark.parametrize("block", [1, 3, 1024])
    def test_the_definition(self, c, beta, block):
        x, score = normal(5, 3, dtype=torch.float64), normal(5, 3, dtype=torch.float64, seed=1)
        k0 = stein_by_autograd(x, score, c, beta)
        v, u = (ksd(x, score, c=c, beta=beta, statistic=s, block=block) for s in "vu")
        torch.testing.assert_close(v, k0.mean(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(u, (k0.sum() - k0.trace()) / 20, rtol=1e-10, atol=1e-12)

    def test_it_tells_a_biased_sampler(self):
        """The discrepancy separates ULA at a coarse step from MALA at the same step, on a
        Gaussian."""
        x0 = normal(1500, 2)
        ula = Langevin(torch.neg, 0.7)(x0, 100, noise=Noise(2))
        mala = MALA(lambda x: 0.5 * x.square().sum(1), 0.7)(x0, 100, noise=Noise(2))
        biased, exact = float(ksd(ula, -ula)), float(ksd(mala, -mala))
        assert biased > 0.01
        assert abs(exact) < 0.2 * biased

    def test_u_is_unbiased_and_v_is_not_negative(self):
        values = torch.stack([ksd(x, -x) for x in (normal(60, 2, seed=s) for s in range(60))])
        assert abs(float(values.mean())) < 4.5 * float(values.std()) / 60**0.5
        assert (values < 0).any()
        assert ksd(normal(60, 2), -normal(60, 2), statistic="v") > 0

    def test_images_and_dtypes(self, dtype):
        x = normal(10, 3, 4, 4, dtype=dtype)
        got = ksd(x, -x)
        assert got.dtype == torch.float64
        torch.testing.assert_close(got, ksd(x.double().flatten(1), -x.double().flatten(1)))

    def test_memory_is_bounded_by_the_block(self):
        """No tensor is larger than the points themselves or a block's matrix."""

        class Largest(TorchDispatchMode):
            elements = 0

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                if isinstance(out, Tensor):
                    Largest.elements = max(Largest.elements, out.numel())
                return out

        x = normal(2000, 2)
        with Largest():
            ksd(x, -x, block=100)
        assert Largest.elements == 100 * 100


BAD = {
    "x": (
        lambda: ksd(torch.zeros(3, 2, dtype=torch.int32), torch.zeros(3, 2)),
        TypeError,
        "kernel_stein_discrepancy: x must be",
    ),
    "score": (
        lambda: ksd(normal(3, 2), normal(3, 1)),
        ValueError,
        r"score must have x's shape \(3, 2\), got \(3, 1\)",
    ),
    "statistic": (
        lambda: ksd(normal(3, 2), normal(3, 2), statistic="w"),
        ValueError,
        "statistic must be one of 'u', 'v', got 'w'",
    ),
    "few": (lambda: ksd(normal(1, 2), normal(1, 2)), ValueError, "x must hold 2 points or more, got 1"),
    "beta": (
        lambda: ksd(normal(3, 2), normal(3, 2), beta=-1.0),
        ValueError,
        r"beta must be in \(-1, 0\), got -1.0",
    ),
    "c": (lambda: ksd(normal(3, 2), normal(3, 2), c=0.0), ValueError, "c must be > 0"),
    "block": (lambda: ksd(normal(3, 2), normal(3, 2), block=0), ValueError, "block must be >= 1, got 0"),
    "states": (
        lambda: diagnostics.ess(normal(5)),
        ValueError,
        r"ess: states must be \(draws, chains, ...\), got \(5,\)",
    ),
    "draws": (
        lambda: diagnostics.rhat(normal(3, 5)),
        ValueError,
        "rhat: states must hold 4 draws or more, got 3",
    ),
    "trace": (
        lambda: diagnostics.energy_trace(normal(3), torch.sum),
        ValueError,
        r"energy_trace: states must be \(draws",
    ),
    "arviz": (lambda: diagnostics.to_arviz([1.0]), TypeError, "to_arviz: states must be a tensor, got list"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
