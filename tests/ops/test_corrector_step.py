"""The corrector's op on the CPU has the bits of the two sums and the Langevin step that it
replaces, and the numbers of its definition."""

from __future__ import annotations

import pytest
import torch
from cases import DTYPES, assert_equal, normal

from pyebm import Noise, _composed, _ops, reference
from pyebm.samplers import VE, VP, PredictorCorrector, SubVP
from pyebm.samplers._plain import PlainCorrector, PlainStep

pytestmark = [
    pytest.mark.usefixtures("poison"),
    pytest.mark.skipif(_ops.backends()["cpu"] is not True, reason="the CPU library is not built"),
]
FACTOR = 0.32
OPS = _ops._REGISTERED
FUSED = OPS["corrector_step"]
COMPOSED = _composed.around(OPS)["corrector_step"]
# Norms over a batch are added in another order than torch's, so a step size may differ by a few
# roundings of a float64.
ROUNDINGS = {torch.float64: 1e-14, torch.float32: 2e-7, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def given(shape, options=False):
    noise = Noise(-3, first_sample=7, step=2, stream=5)
    if not options:
        return noise, ()
    noise = Noise(torch.arange(shape[0]) % 3, sample_ids=torch.arange(shape[0]).flip(0), step=2)
    mask = (normal(*shape, seed=4) > 0).expand(shape)
    return noise, (mask, -0.5, None, *noise._rows(shape[0], torch.empty(shape)))


def stepped(op, x, score, noise, together, tail=(), factor=FACTOR):
    x = x.clone()
    op(x, score, factor, noise._name, together, *tail)
    return x


def fits(got, want, together):
    if together:
        torch.testing.assert_close(got, want, rtol=ROUNDINGS[want.dtype], atol=ROUNDINGS[want.dtype])
    else:
        assert_equal(got, want)


@pytest.fixture(params=[False, True], ids=["sample", "batch"])
def together(request):
    return request.param


class TestBits:
    @pytest.mark.usefixtures("threads")
    def test_of_the_ops_it_replaces(self, shape, dtype, together):
        if 0 in shape[1:]:
            pytest.skip("refused: no norms")
        x, score = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
        noise, _ = given(shape)
        fits(*(stepped(op, x, score, noise, together) for op in (FUSED, COMPOSED)), together)

    @pytest.mark.parametrize("shape", [(64, 2), (7, 17), (5, 3, 7, 3), (2, 1027), (3, 2500)])
    def test_at_every_simd_level_with_every_option(self, backend, shape, dtype, together):
        if backend != "cpu":
            pytest.skip("the CPU's op")
        x, score = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
        noise, tail = given(shape, options=True)
        got, want = (stepped(op, x, score, noise, together, tail) for op in (FUSED, COMPOSED))
        fits(got, want, together)
        assert_equal(got[~tail[0]], x[~tail[0]])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_of_any_layout(self, dtype, together):
        x, score = normal(6, 3, 5, 4, dtype=dtype), normal(6, 3, 5, 4, dtype=dtype, seed=1)
        noise, _ = given(x.shape)
        want = stepped(FUSED, x, score, noise, together)
        for lay in (
            lambda t: t.contiguous(memory_format=torch.channels_last),
            lambda t: t.mT.contiguous().mT,
        ):
            got = lay(x).clone()
            FUSED(got, lay(score), FACTOR, noise._name, together)
            assert got.stride() == lay(x).stride()
            assert_equal(got, want)

    def test_a_sample_does_not_depend_on_its_batch(self):
        for shape in ((40, 3), (5, 2500)):
            x, score = normal(*shape), normal(*shape, seed=1)
            whole = stepped(FUSED, x, score, Noise(3), False)
            part = stepped(FUSED, x[2:4], score[2:4], Noise(3, first_sample=2), False)
            assert_equal(part, whole[2:4])

    @pytest.mark.parametrize("shape", [(60_001, 2), (3000, 33), (1, 65_539)])
    def test_threads(self, shape, together):
        x, score, made = normal(*shape, dtype=torch.float64), normal(*shape, dtype=torch.float64, seed=1), []
        before = torch.get_num_threads()
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(stepped(FUSED, x, score, Noise(3), together))
        torch.set_num_threads(before)
        assert_equal(made[1], made[0])
        assert_equal(made[2], made[0])


def test_the_definition(shape, dtype, together):
    """The definition sums in float64; the kernel's norms are good to float32's rounding, or to
    float64's for float64 samples."""
    if 0 in shape[1:]:
        pytest.skip("refused: no norms")
    x, score = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    noise, tail = given(shape, options=True)
    got, want = (
        stepped(op, x, score, noise, together, tail) for op in (FUSED, reference.OPS["corrector_step"])
    )
    exact = {torch.float64: 1e-13, torch.float32: 1e-6}.get(dtype, ROUNDINGS[dtype])
    torch.testing.assert_close(got, want, rtol=exact, atol=exact)


@pytest.mark.parametrize("op", [FUSED, COMPOSED], ids=["fused", "composed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_refusals_leave_x_as_it_was(op, dtype):
    x = normal(6, 5, dtype=dtype)
    some, one_nan = normal(6, 5, dtype=dtype, seed=1), normal(6, 5, dtype=dtype, seed=1)
    some[3], one_nan[4, 2] = 0, torch.nan
    for score, sample, batch in (
        (torch.zeros_like(x), "got inf for sample 0", "got inf"),
        (some, "got inf for sample 3", None),
        (one_nan, "got nan for sample 4", "got nan"),
    ):
        for together, message in ((False, sample), (True, batch)):
            held = x.clone()
            if message is None:
                op(held, score, FACTOR, Noise(3)._name, together)
                continue
            with pytest.raises(
                (ValueError, RuntimeError), match=f"step_size must be > 0 and finite, {message}"
            ):
                op(held, score, FACTOR, Noise(3)._name, together)
            assert_equal(held, x)


@pytest.mark.parametrize("shape", [(0,), (0, 3)])
def test_no_samples(shape, together):
    FUSED(torch.empty(shape), torch.empty(shape), FACTOR, Noise(3)._name, together)


def test_no_elements(together):
    for op in (FUSED, COMPOSED):
        with pytest.raises(ValueError, match=r"step_size must be > 0 and finite, got -?nan"):
            op(torch.empty(2, 0), torch.empty(2, 0), FACTOR, Noise(3)._name, together)


class TestSampler:
    """The sampler steps in three ways: without the dispatcher, by the op, and composed of the
    ops that it replaces."""

    @pytest.fixture
    def outcomes(self, monkeypatch):
        """Collects what each call of a step without the dispatcher returned."""
        seen: list[bool] = []
        for kind in (PlainStep, PlainCorrector):
            call = kind.__call__
            wrapped = lambda self, score, k, call=call: seen.append(call(self, score, k)) or seen[-1]  # noqa: E731
            monkeypatch.setattr(kind, "__call__", wrapped)
        return seen

    def three_ways(self, monkeypatch, run):
        """Runs without the dispatcher, then by the op, then by the ops that it replaces."""
        yield run()
        with monkeypatch.context() as patch:
            patch.setattr(PlainStep, "for_run", lambda *_: None)
            yield run()
            patch.setitem(OPS, "corrector_step", COMPOSED)
            yield run()

    @pytest.mark.parametrize("per", ["sample", "batch"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(64, 2), (1,), (3, 2500), (0, 3)])
    def test_the_same_bits(self, shape, dtype, per, outcomes, monkeypatch):
        x0, noise = normal(*shape, dtype=dtype), Noise(-5, first_sample=9, stream=2)
        sampler = PredictorCorrector(
            lambda x, t: -torch.tanh(x) * (1 + t.mean()), VP(0.1, 4.0), 6, corrector_steps=2, per=per
        )
        plain, op, composed = self.three_ways(monkeypatch, lambda: sampler(x0, noise=noise))
        assert_equal(plain, op)
        assert outcomes == [True] * 18
        if per == "sample":
            assert_equal(plain, composed)
        else:
            torch.testing.assert_close(
                plain, composed, rtol=10 * ROUNDINGS[dtype], atol=10 * ROUNDINGS[dtype]
            )
        half = sampler(x0, 3, noise=noise)
        assert_equal(sampler(half, noise=noise.at(step=3)), plain)

    @pytest.mark.parametrize(
        "score", [lambda x, _: x.mT.contiguous().mT.neg(), lambda x, _: -x.to(torch.bfloat16)]
    )
    def test_scores_that_are_the_op_s(self, score, outcomes, monkeypatch):
        x0 = normal(6, 5)
        sampler = PredictorCorrector(score, SubVP(0.1, 4.0), 6, corrector_steps=2, per="sample")
        plain, op, composed = self.three_ways(monkeypatch, lambda: sampler(x0, noise=Noise(3)))
        assert_equal(plain, op)
        assert_equal(plain, composed)
        assert outcomes == [False] * 18

    @pytest.mark.parametrize(
        "options", [{"clamp": (-1, 1)}, {"mask": normal(6, 5) > 0}, {"backend": "reference"}]
    )
    def test_options_are_the_op_s(self, options, outcomes):
        sampler = PredictorCorrector(lambda x, _: -x, VE(), 6, **options)
        sampler(normal(6, 5), 2, noise=Noise(0))
        PredictorCorrector(lambda x, _: -x, VE(), 6)(normal(6, 5).half(), 2, noise=Noise(0))
        PredictorCorrector(lambda x, _: -x, VE(), 6)(normal(6, 5), 2, noise=Noise(torch.arange(6)))
        assert not outcomes

    def test_a_profile_shows_the_steps(self):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            PredictorCorrector(lambda x, _: -x, VE(), 6)(normal(6, 5), 4, noise=Noise(0))
        names = [event.name for event in profile.events()]
        assert names.count("pyebm::corrector_step") == names.count("pyebm::affine_step") == 4
