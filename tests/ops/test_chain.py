"""langevin_chain has the bits of the loop that it replaces, with every option, and samples the
right law."""

from __future__ import annotations

import pytest
import torch
from cases import LARGE, assert_equal, levels, name_of
from target_cases import KINDS, elements_of, loop, make, start

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")

NOISE = Noise(3, step=4)
STEPS = 5


def chain(x, target, n_steps=STEPS, step_size=0.003, noise=NOISE, **options):
    return pyebm.langevin_chain(x, target, n_steps, step_size, noise, **options)


@pytest.mark.parametrize("kind", KINDS)
class TestEveryTarget:
    def test_equals_the_loop_and_the_reference(self, backend, device, dtype, shape, kind):
        if kind == "gaussian" and elements_of(shape) == 0:
            pytest.skip("a Gaussian of no dimensions is refused")
        target, x = make(kind, elements_of(shape)).to(device), start(shape, dtype, device)
        if elements_of(shape) < target.least_dim and shape[0]:
            with pytest.raises(ValueError, match="x must have samples of at least"):
                chain(x, target, backend=backend)
            return
        steps = 2 if shape in LARGE else STEPS
        before = x.clone()
        got = chain(x, target, steps, backend=backend)
        assert_equal(x, before)
        # In float16 the funnel's first element overflows where a sample has many others.
        assert_equal(got, loop(x, target, steps, 0.003, NOISE, backend=backend), equal_nan=True)
        assert_equal(got, chain(x, target, steps, backend="reference"), equal_nan=True)
        assert got.isnan().sum() <= (kind == "funnel" and shape in LARGE)

    def test_no_steps_give_a_copy(self, backend, device, kind):
        x = start((5, 6), device=device)
        got = chain(x, make(kind, 6).to(device), 0, backend=backend)
        assert_equal(got, x)
        assert got.data_ptr() != x.data_ptr()

    @pytest.mark.parametrize("shape", [(6, 2), (70, 17), (6, 1100)], ids=name_of)
    def test_every_option(self, backend, device, dtype, shape, kind):
        target, x = make(kind, elements_of(shape)).to(device), start(shape, dtype, device)
        rows = levels(shape[0], device) * 0.006
        for step_size in (0.003, rows, [0.003, 0.002, 0.004, 0.001, 0.005]):
            for temperature in (0.0, 0.7, levels(shape[0], device, seed=1), [1.0, 0.5, 0.0, 2.0, 1.0]):
                options = {"temperature": temperature, "clamp": (-1.0, 1.2), "thin": 2, "backend": backend}
                got = chain(x, target, step_size=step_size, **options)
                assert_equal(got, loop(x, target, STEPS, step_size, NOISE, **options))


class TestOneRun:
    """A run's bits depend neither on cuts, batches and threads nor on layouts."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_cuts_into_calls(self, backend, device, dtype, kind):
        target, x = make(kind, 6).to(device), start((9, 6), dtype, device)
        whole, states = chain(x, target, 7, thin=1, backend=backend)
        assert_equal(states[-1], whole)
        for cut in range(8):
            first = chain(x, target, cut, backend=backend)
            assert_equal(first, states[cut - 1] if cut else x)
            assert_equal(chain(first, target, 7 - cut, noise=NOISE.at(step=4 + cut), backend=backend), whole)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("elements", [2, 17, 1100])
    def test_batches(self, backend, device, kind, elements):
        target, x = make(kind, elements).to(device), start((13, elements), device=device)
        whole, report = chain(x, target, return_diverged=True, backend=backend)
        assert_equal(report, torch.full((13,), -1, device=device))
        for cut in (1, 6, 12):
            assert_equal(chain(x[:cut], target, backend=backend), whole[:cut])
            assert_equal(
                chain(x[cut:], target, noise=NOISE.shard(first_sample=cut), backend=backend), whole[cut:]
            )
        order = torch.randperm(13, generator=torch.Generator().manual_seed(1))
        noise = Noise(3, step=4, sample_ids=order)
        assert_equal(
            chain(x[order.to(device)], target, noise=noise, backend=backend), whole[order.to(device)]
        )

    def test_seeds_of_each_sample(self, backend, device):
        target, x = make("double_well", 5).to(device), start((7, 5), device=device)
        seeds = torch.arange(7) * 2**40 - 3
        got = chain(
            x, target, noise=Noise(seeds, sample_ids=torch.zeros(7, dtype=torch.int64)), backend=backend
        )
        for b in range(7):
            assert_equal(
                chain(x[b : b + 1], target, noise=Noise(int(seeds[b])), backend=backend), got[b : b + 1]
            )

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shape", [(700, 2), (2001, 3), (4, 3000)], ids=name_of)
    def test_threads(self, backend, device, shape, kind):
        """The run is long enough that threads share it, which cuts the samples differently."""
        target, x = make(kind, shape[1]).to(device), start(shape, device=device)
        want = chain(
            x, target, 20, 1e-4, thin=7, return_diverged=True, backend=backend
        )  # a fixture sets one thread
        for threads in (2, 3):
            torch.set_num_threads(threads)
            got = chain(x, target, 20, 1e-4, thin=7, return_diverged=True, backend=backend)
            torch.set_num_threads(1)
            assert_equal(got, want, equal_nan=True)

    @pytest.mark.parametrize("kind", ["double_well", "funnel"])
    def test_layouts(self, backend, device, kind):
        base = start((6, 8, 4, 5), device=device)
        target = make(kind, 0).to(device)
        for x in (
            base.contiguous(memory_format=torch.channels_last),
            base.transpose(1, 3),
            base[:, ::2],
            base[:, :1].expand(-1, 8, -1, -1),
            base.flatten()[1:-159].view(-1, 160),
        ):
            before = x.clone()
            got, states = chain(x, target, thin=2, backend=backend)
            assert_equal((got, states), chain(x.contiguous(), target, thin=2, backend=backend))
            assert got.stride() == torch.empty_like(x).stride()
            assert_equal(x, before)

    def test_the_last_step_there_is(self, backend, device):
        target, x = make("double_well", 3).to(device), start((4, 3), device=device)
        noise = Noise(3, step=2**32 - 2)
        assert_equal(
            chain(x, target, 2, noise=noise, backend=backend),
            chain(x, target, 2, noise=noise, backend="reference"),
        )


class TestDivergence:
    @pytest.mark.parametrize("shape", [(70, 3), (5, 1100), (2, 3, 400)], ids=name_of)
    def test_first_step_of_each_chain(self, backend, device, dtype, shape):
        """Some chains start far out, where the quartic well throws them further out at each
        step; the others go on as they would alone."""
        target, x = make("double_well", 0).to(device), start(shape, dtype, device)
        bad = torch.arange(shape[0], device=device) % 3 == 1
        x[bad] = x[bad] * 30
        last, states, first = chain(x, target, 30, 0.01, thin=1, return_diverged=True, backend=backend)
        finite = states.isfinite().reshape(30, shape[0], -1).all(2)
        assert_equal(first, torch.where(finite.all(0), -1, (~finite).int().argmax(0)))
        assert_equal(first >= 0, bad)
        x[bad] = 0
        assert_equal(last[~bad], chain(x, target, 30, 0.01, backend=backend)[~bad])

    def test_a_state_that_begins_so(self, backend, device):
        target, x = make("ackley", 4).to(device), start((5, 4), device=device)
        x[2, 1], x[4, 0] = float("nan"), float("inf")
        got, first = chain(x, target, return_diverged=True, backend=backend)
        assert first.tolist() == [-1, -1, 0, -1, 0]
        alone = chain(x[3:4], target, noise=NOISE.shard(first_sample=3), backend=backend)
        assert_equal(got[3:4], alone)

    def test_without_steps_or_elements(self, backend, device):
        target = make("double_well", 0).to(device)
        for shape in ((3, 4), (3, 0), (0, 4)):
            _, first = chain(start(shape, device=device), target, 0, return_diverged=True, backend=backend)
            assert_equal(first, torch.full(shape[:1], -1, device=device))


class TestGradient:
    @pytest.mark.parametrize("kind", KINDS)
    def test_same_bits(self, backend, device, dtype, kind):
        target, x = make(kind, 6).to(device), start((4, 6), dtype, device)
        options = {
            "temperature": [1.0, 0.5, 0.0, 2.0, 1.0],
            "clamp": (-2, 2),
            "thin": 2,
            "return_diverged": True,
        }
        want = chain(x, target, backend=backend, **options)
        got = chain(x.clone().requires_grad_(), target, backend=backend, **options)
        assert got[0].requires_grad
        assert_equal([t.detach() for t in got], list(want))

    @pytest.mark.parametrize("kind", KINDS)
    def test_gradcheck(self, backend, device, kind):
        target, x = make(kind, 3).to(device), start((2, 3), torch.float64, device).requires_grad_()
        torch.autograd.gradcheck(lambda x: chain(x, target, 3, 0.01, backend=backend), x)

    def test_no_grad_takes_the_kernel(self, backend, device):
        x = start((4, 6), device=device).requires_grad_()
        with torch.no_grad():
            assert not chain(x, make("double_well", 6).to(device), backend=backend).requires_grad
        with torch.inference_mode():
            chain(x, make("double_well", 6).to(device), backend=backend)


def test_scores_at_the_ends_of_the_range(backend, device, dtype):
    """Infinite and NaN states, and states at which exp and the sums over- and underflow, give
    the reference's score."""
    inf, nan = float("inf"), float("nan")
    values = [
        0.0,
        -0.0,
        1e-30,
        1.0,
        40.0,
        -40.0,
        90.0,
        -90.0,
        110.0,
        -110.0,
        1e4,
        -1e4,
        6e4,
        1e30,
        inf,
        -inf,
        nan,
    ]
    values = torch.tensor(values, dtype=torch.float64)
    x = torch.cartesian_prod(values, values).to(device, dtype)
    for kind in KINDS:
        target = make(kind, 2).to(device)
        assert_equal(target.score(x, backend=backend), target.score(x, backend="reference"), equal_nan=True)
