"""The closed-form targets: the energy against its formula, the score against the energy's
gradient, laws, and a module's promises."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from cases import assert_equal, normal
from scipy import stats
from target_cases import KINDS, lacks, make, start

import pyebm
from pyebm import Noise, targets

T = torch.tensor


@pytest.mark.parametrize(
    ("target", "x", "energy"),
    [
        (targets.Harmonic(3.0, 1.0), [[2.0, -1.0]], 1.5 * (1 + 4)),
        (targets.DoubleWell(2.0, 3.0), [[3.0, 0.0, 6.0]], 2 * (0 + 1 + 9)),
        (targets.Gaussian(T([1.0, 2.0]), T([2.0, 0.5])), [[3.0, 1.0]], 0.5 * (1 + 4)),
        (targets.Gaussian(1.0, 2.0), [[3.0, 1.0, -1.0]], 0.5 * (1 + 0 + 1)),
        (targets.Polynomial([1.0, -2.0, 3.0]), [[2.0, -1.0]], (1 - 4 + 12) + (1 + 2 + 3)),
        (targets.Rastrigin(4.0), [[0.5, 0.25, 2.0]], (0.25 + 8) + (0.0625 + 4) + 4),
        (targets.Rosenbrock(1.0, 100.0), [[1.0, 2.0, 3.0]], 100 * 1 + 0 + 100 * 1 + 1),
        (targets.Ackley(), [[0.5, 0.5]], 20 * (1 - math.exp(-0.1)) + math.e - math.exp(-1)),
        (targets.Funnel(2.0), [[1.0, 2.0, 3.0]], 1 / 8 + 1 + math.exp(-1) * 13 / 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, targets.Target) else "",
)
def test_energies(target, x, energy):
    for dtype in (torch.float32, torch.float64):
        got = target(T(x, dtype=dtype))
        torch.testing.assert_close(got, T([energy], dtype=dtype))
        assert_equal(target.energy(T(x, dtype=dtype)), got)


@pytest.mark.parametrize("kind", KINDS)
class TestScore:
    def test_is_minus_the_energys_gradient(self, kind):
        target, x = make(kind, 5), start((7, 5), torch.float64)
        torch.testing.assert_close(target.score(x), pyebm.energy_score(target, x), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(target.score(x.float()).double(), target.score(x), rtol=2e-5, atol=2e-5)

    def test_gradients(self, kind):
        target, x = make(kind, 4), normal(2, 4, dtype=torch.float64, grad=True)
        torch.autograd.gradcheck(target, x)
        torch.autograd.gradcheck(target.score, x)
        torch.autograd.gradgradcheck(target.score, x)

    def test_same_bits_where_x_requires_grad(self, kind, dtype):
        target, x = make(kind, 9), start((6, 9), dtype)
        assert_equal(target.score(x.clone().requires_grad_()).detach(), target.score(x))

    def test_rounded_once(self, kind):
        """In half precisions, the score is the float32 score of the same x, rounded."""
        target = make(kind, 9)
        for dtype in (torch.float16, torch.bfloat16):
            x = start((6, 9), dtype)
            assert_equal(target.score(x), target.score(x.float()).to(dtype))

    def test_shapes_and_layouts(self, kind):
        target, x = make(kind, 24), start((5, 24))
        want = target.score(x)
        for view in (x.reshape(5, 2, 3, 4), x.t().contiguous().t(), torch.cat((x, x), 1)[:, :24]):
            assert_equal(target.score(view).reshape(5, 24), want)
            torch.testing.assert_close(target(view), target(x))
        assert target.score(x[:0]).shape == (0, 24)
        assert target(x[:0]).shape == (0,)


def quadrature(target, low, high):
    """The integral of exp(log_prob) over one or two elements by the trapezoidal rule; the
    density is nothing at the ends."""
    count = 100_001 if len(low) == 1 else 1501
    axes = [torch.linspace(a, b, count, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    density = target.log_prob(torch.cartesian_prod(*axes).reshape(-1, len(axes))).exp()
    return float(density.sum() * math.prod(axis[1] - axis[0] for axis in axes))


@pytest.mark.parametrize(
    ("target", "low", "high"),
    [
        (targets.Harmonic(3.0, 1.0), [-9], [9]),
        (targets.Gaussian(1.0, 0.4), [-9], [9]),
        (targets.DoubleWell(2.0, 1.3), [-6], [6]),
        (targets.DoubleWell(300.0, 0.5), [0], [1]),
        (targets.Polynomial([0.5, 0.3, -1.1, 0.2, 0.25]), [-9], [9]),
        (targets.Polynomial([-700.0, 0.0, 0.001]), [-900], [900]),
        (targets.Rastrigin(0.8), [-9], [9]),
        (targets.Gaussian(T([1.0, 2.0]), T([2.0, 0.5])), [-15, -3], [17, 7]),
        (targets.Rosenbrock(0.5, 4.0), [-4, -2], [5, 20]),
        (targets.Funnel(0.8), [-7, -30], [7, 30]),
    ],
    ids=repr,
)
def test_log_prob_is_normalised(target, low, high):
    one = 0.5 if target.__class__ is targets.DoubleWell and low == [0] else 1.0  # over one of two wells
    assert abs(quadrature(target, low, high) - one) < 3e-6


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_of_several_elements(kind):
    """log_prob is minus the energy and a constant; where elements are independent, it is the sum
    over them."""
    target, x = make(kind, 3), start((5, 3), torch.float64)
    if lacks(target, "log_prob", 3):
        with pytest.raises(NotImplementedError, match="log_prob"):
            target.log_prob(x)
        return
    difference = target.log_prob(x) + target(x)
    torch.testing.assert_close(difference, difference[:1].expand(5))
    if not pyebm._schemas.KINDS[kind].coupled and target.dim is None:
        torch.testing.assert_close(
            target.log_prob(x), sum(target.log_prob(x[:, i : i + 1]) for i in range(3))
        )
    torch.autograd.gradcheck(target.log_prob, x.requires_grad_())


class TestSampling:
    N = 20_000

    def test_normals(self):
        mean, std = T([0.5, -2.0, 30.0]), T([0.1, 2.0, 5.0])
        for target in (targets.Gaussian(mean, std), targets.Harmonic(4.0, 1.0)):
            shape = self.N if target.dim else (self.N, 3)
            x = target.sample(shape, Noise(5), dtype=torch.float64)
            centred = (x - mean) / std if target.dim else (x - 1) * 2
            assert min(stats.kstest(centred[:, i].numpy(), "norm").pvalue for i in range(3)) > 1e-4
            assert (torch.corrcoef(centred.T) - torch.eye(3)).abs().max() < 0.03

    def test_rosenbrock(self):
        x = targets.Rosenbrock(0.7, 5.0).sample(self.N, Noise(6), dtype=torch.float64)
        first, second = (x[:, 0] - 0.7) * math.sqrt(2), (x[:, 1] - x[:, 0] ** 2) * math.sqrt(10)
        assert min(stats.kstest(z.numpy(), "norm").pvalue for z in (first, second)) > 1e-4
        assert abs(float((first * second).mean())) < 0.03

    def test_funnel(self):
        x = targets.Funnel(1.5).sample((self.N, 4), Noise(7), dtype=torch.float64)
        z = torch.cat((x[:, :1] / 1.5, x[:, 1:] * (-x[:, :1] / 2).exp()), 1)
        assert min(stats.kstest(z[:, i].numpy(), "norm").pvalue for i in range(4)) > 1e-4

    def test_regenerated(self):
        """The same noise gives the same samples, also in a shard, whatever else is drawn."""
        target = targets.Funnel()
        x = target.sample((50, 3), Noise(8, step=2))
        assert x.dtype == torch.float32
        assert_equal(target.sample((20, 3), Noise(8, step=2).shard(first_sample=30)), x[30:])
        assert_equal(target.sample((50, 3), Noise(8, step=2), dtype=torch.bfloat16), x.bfloat16())

    def test_shapes(self):
        assert targets.Gaussian(torch.zeros(6)).sample((4, 2, 3), Noise(0)).shape == (4, 2, 3)
        assert targets.Rosenbrock().sample(4, Noise(0)).shape == (4, 2)
        with pytest.raises(ValueError, match=r"Harmonic.sample: n must be a shape \(n, ...\)"):
            targets.Harmonic().sample(4, Noise(0))
        with pytest.raises(ValueError, match="samples of 6 elements"):
            targets.Gaussian(torch.zeros(6)).sample((4, 5), Noise(0))
        for target in (
            targets.DoubleWell(),
            targets.Ackley(),
            targets.Rastrigin(),
            targets.Polynomial([0.0, 0.0, 1.0]),
        ):
            with pytest.raises(NotImplementedError, match="no exact sampling"):
                target.sample((4, 2), Noise(0))


class TestModule:
    @pytest.mark.parametrize("kind", KINDS)
    def test_state_dict_copy_pickle(self, kind):
        target, x = make(kind, 5), start((3, 5))
        want = target.score(x)
        assert all(value.dtype == torch.float64 for value in target.state_dict().values())
        assert not list(target.parameters())
        for other in (copy.deepcopy(target), pickle.loads(pickle.dumps(target))):
            assert_equal(other.score(x), want)
        fresh = type(target)(*[torch.ones_like(b) if b.dim() else 1.5 for b in target.buffers()])
        fresh.load_state_dict(target.state_dict())
        assert_equal(fresh.score(x), want)
        assert_equal(target.half().score(x), copy.deepcopy(target).half().score(x))

    def test_a_changed_buffer_is_seen(self):
        target, x = targets.Harmonic(1.0), start((3, 5))
        assert_equal(target.score(x), -x)
        target.stiffness.fill_(2.0)
        assert_equal(target.score(x), -2 * x)
        target.stiffness = T(3.0, dtype=torch.float64)
        assert_equal(target.score(x), -3 * x)
        target.load_state_dict({"stiffness": T(4.0), "center": T(0.0)})
        assert_equal(target.score(x), -4 * x)
        with torch.inference_mode():
            assert_equal(targets.Harmonic(2.0).score(x), -2 * x)

    def test_a_changed_buffer_of_a_module_inside_is_seen(self):
        class Doubled(targets.Harmonic):
            def __init__(self):
                super().__init__()
                self.inner = targets.Harmonic(2.0)

            def _numbers(self):
                return self.inner._numbers()

        target, x = Doubled(), normal(3, 2)
        before = target.score(x)
        target.inner.stiffness.mul_(2.0)
        assert_equal(target.score(x), 2 * before)

    def test_learned_parameters(self):
        """The energy, the score and the chain carry the gradient of a buffer that requires grad."""
        target, x = targets.Harmonic(1.0), start((3, 5), torch.float64)
        target.stiffness.requires_grad_()
        (grad,) = torch.autograd.grad(target.score(x).sum(), target.stiffness)
        torch.testing.assert_close(grad, -x.sum())
        last = pyebm.langevin_chain(x, target, 1, 0.1, Noise(0), temperature=0.0)
        (grad,) = torch.autograd.grad(last.sum(), target.stiffness)
        torch.testing.assert_close(grad, -0.1 * x.sum())

    def test_repr(self):
        assert repr(targets.DoubleWell(2.0, 1.5)) == "DoubleWell(barrier=2, width=1.5)"
        assert repr(targets.Gaussian(torch.zeros(3))) == "Gaussian(mean=<(3,)>, std=1)"

    def test_is_an_energy_for_samplers(self):
        target = targets.Rastrigin(1.0)
        by_autograd = pyebm.samplers.Langevin(lambda x: pyebm.energy_score(target, x), 0.01)
        x = by_autograd(start((6, 3), torch.float64), 10, noise=Noise(1))
        want = pyebm.langevin_chain(start((6, 3), torch.float64), target, 10, 0.01, Noise(1))
        torch.testing.assert_close(x, want, rtol=1e-11, atol=1e-11)
