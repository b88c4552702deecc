"""langevin_chain on mixtures and full covariances has the bits of the loop, and the right law at
every step."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, levels, name_of, normal
from dense_cases import MAKE, correlated, emulates, has_the_op
from target_cases import elements_of, loop
from torch._dynamo.testing import CompileCounterWithBackend
from torch.library import opcheck

import pyebm
from pyebm import Noise
from pyebm.targets import GaussianMixture

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

NOISE = Noise(3, step=4)


@pytest.fixture
def backend(backend):
    return has_the_op(backend, "langevin_chain")


# Empty batches, single elements, and sizes on both sides of the fused dimensions, of a chunk's cuts
# and of a tile's lanes.
SIZES = ((0, 3), (1,), (3,), (17,), (257,), (64, 2), (7, 17), (2, 257), (4, 3, 8, 8), (3, 515), (2, 1027))


@pytest.mark.parametrize("shape", SIZES, ids=name_of)
@pytest.mark.parametrize("make", MAKE)
def test_equals_the_loop(backend, dtype, shape, make):
    target, x = MAKE[make](elements_of(shape)), normal(*shape, dtype=dtype)
    before = x.clone()
    got = pyebm.langevin_chain(x, target, 3, 0.01, NOISE, backend=backend)
    assert_equal(x, before)
    assert_equal(got, loop(x, target, 3, 0.01, NOISE, backend=backend))


@pytest.mark.parametrize("make", MAKE)
class TestEveryTarget:
    def test_every_option(self, backend, make):
        for shape in ((6, 2), (70, 17), (20, 600)):
            target, x = MAKE[make](shape[1]), normal(*shape)
            rows = levels(shape[0])
            for step_size, temperature in (
                (0.01, rows),
                (0.02 * rows, 0.7),
                ([0.01, 0.02, 0.01, 0.03], [1.0, 0.5, 0.0, 2.0]),
            ):
                options = {"temperature": temperature, "clamp": (-1.0, 1.2), "thin": 2, "backend": backend}
                got = pyebm.langevin_chain(x, target, 4, step_size, NOISE, **options)
                assert_equal(got, loop(x, target, 4, step_size, NOISE, **options))

    def test_batches_threads_and_cuts(self, backend, threads, dtype, make):
        batch, dims = (18, (2, 20)) if emulates(backend, threads) else (70, (2, 20, 130))
        for dim in dims:
            target, x = MAKE[make](dim), normal(batch, dim, dtype=dtype)
            whole = pyebm.langevin_chain(x, target, 5, 0.01, NOISE, backend=backend)
            for size in (1, 9, 33):
                parts = [
                    pyebm.langevin_chain(
                        part, target, 5, 0.01, NOISE.shard(first_sample=k * size), backend=backend
                    )
                    for k, part in enumerate(x.split(size))
                ]
                assert_equal(torch.cat(parts), whole)
            half = pyebm.langevin_chain(x, target, 2, 0.01, NOISE, backend=backend)
            assert_equal(
                pyebm.langevin_chain(half, target, 3, 0.01, NOISE.at(step=6), backend=backend), whole
            )
            strided = pyebm.langevin_chain(x.t().contiguous().t(), target, 5, 0.01, NOISE, backend=backend)
            assert_equal(strided, whole)

    def test_seeds_and_ids(self, backend, make):
        target, x = MAKE[make](9), normal(40, 9)
        noise = Noise(torch.arange(40) % 7, sample_ids=torch.arange(40).flip(0))
        got = pyebm.langevin_chain(x, target, 4, 0.01, noise, backend=backend)
        assert_equal(got, loop(x, target, 4, 0.01, noise, backend=backend))

    def test_a_diverging_chain_is_its_own(self, backend, make):
        target, x = MAKE[make](9), normal(40, 9)
        expected, diverged = pyebm.langevin_chain(
            x, target, 4, 0.01, NOISE, return_diverged=True, backend=backend
        )
        assert (diverged == -1).all()
        bad = x.clone()
        bad[7, 3], bad[21, 8] = torch.nan, torch.inf
        got, diverged = pyebm.langevin_chain(
            bad, target, 4, 0.01, NOISE, return_diverged=True, backend=backend
        )
        assert diverged.nonzero().flatten().tolist() != []
        assert (diverged[[7, 21]] == 0).all()
        rest = [b for b in range(40) if b not in (7, 21)]
        assert (diverged[rest] == -1).all()
        assert_equal(got[rest], expected[rest])

    def test_gradients_flow(self, make):
        target, x = MAKE[make](3), normal(4, 3, dtype=torch.float64, grad=True)
        torch.autograd.gradcheck(lambda x: pyebm.langevin_chain(x, target, 3, 0.01, NOISE), x)


@pytest.mark.filterwarnings("ignore")  # torch warns while it compiles
@pytest.mark.parametrize("make", MAKE)
def test_compiles(make):
    torch._dynamo.reset()
    target, x = MAKE[make](5), normal(8, 5)

    def run(x, noise):
        return target.score(x), target.energy(x), pyebm.langevin_chain(x, target, 3, 0.01, noise)

    compiles = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(run, fullgraph=True, backend=compiles)
    for k in range(3):
        assert_equal(compiled(x + k, Noise(k, step=k)), run(x + k, Noise(k, step=k)))
    assert compiles.frame_count == 1
    params = target._checked("", x)
    opcheck(torch.ops.pyebm.target_score.default, (torch.empty_like(x), x, target._index, params))
    opcheck(
        torch.ops.pyebm.langevin_chain.default, (x.clone(), target._index, params, 2, 0.01, 1.0, NOISE._name)
    )


def test_a_chain_finds_the_weights(backend):
    """From the wrong weights over overlapping components, each of 8000 chains reaches the right
    ones."""
    if emulates(backend):
        pytest.skip("32 million steps; that its chain is the loop of its steps is tested above")
    target = GaussianMixture(
        torch.tensor([[-1.5, 0.0], [1.5, 0.5]]), torch.tensor([[0.8], [0.6]]), torch.tensor([0.3, 0.7])
    )
    x = pyebm.langevin_chain(torch.full((8000, 2), -1.5), target, 4000, 0.02, Noise(0), backend=backend)
    exact = target.sample(200_000, Noise(1))
    share, expected = ((each[:, 0] > 0).double().mean().item() for each in (x, exact))
    assert abs(share - expected) < 0.02  # 4 standard deviations of a binomial
    torch.testing.assert_close(x.double().mean(0), exact.double().mean(0), rtol=0, atol=0.06)
    torch.testing.assert_close(x.double().std(0), exact.double().std(0), rtol=0.03, atol=0)


def test_the_law_with_a_full_covariance_at_every_step(backend):
    """The unadjusted chain on a Gaussian is Gaussian, with m <- m + eta P (mean - m) and S <- A
    S A + 2 eta T, where A = 1 - eta P."""
    chains, steps, eta, temperature = 50_000, 12, 0.15, 0.7
    target = correlated(3)
    precision = torch.linalg.inv(target.covariance)
    start = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    x, states = pyebm.langevin_chain(
        start.float().expand(chains, 3),
        target,
        steps,
        eta,
        Noise(9),
        temperature=temperature,
        thin=1,
        backend=backend,
    )
    mean, covariance = start, torch.zeros(3, 3, dtype=torch.float64)
    shrink = torch.eye(3, dtype=torch.float64) - eta * precision
    for state in states.double():
        mean = mean + eta * precision @ (target.mean - mean)
        covariance = shrink @ covariance @ shrink.T + 2 * eta * temperature * torch.eye(
            3, dtype=torch.float64
        )
        white = torch.linalg.solve_triangular(
            torch.linalg.cholesky(covariance), (state - mean).T, upper=False
        ).T
        assert (white.mean(0).abs() < 5 / chains**0.5).all()
        # The sample covariance of standard normals deviates by 1 off the diagonal and sqrt(2) on
        # it, each over sqrt(chains).
        assert ((white.T @ white / chains - torch.eye(3)).abs() < 5 * 1.5 / chains**0.5).all()
    assert_equal(x, states[-1])
