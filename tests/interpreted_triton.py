"""The Triton kernels under Triton's interpreter, on CPU tensors: the reference's bits.

Not collected by itself: the interpreter has to be chosen before triton is imported, so
test_triton.py runs this file in a process of its own, with TRITON_INTERPRET=1.
"""

from itertools import product

import pytest
import torch
from cases import in_turn
from choice import once_each, thinned
from target_cases import COUPLED, make, start
from torch import Tensor

import pyebm

# Empty batches; samples below a group of 4, a vector of 8 and a tile; several tiles of samples, and
# several tiles in one sample; sizes that 2, 4, 8 or none of them divide.
SHAPES = (
    *((0,), (0, 3), (3, 0)),
    (3,),
    (5, 1),
    (3, 7),
    (2, 6),
    (2, 3, 4, 5),
    (3, 72),
    (530, 2),
    (2, 1031),
    (1, 2052),
    (1, 2310),
)
IN_TURN = pytest.mark.parametrize(("shape", "dtype"), once_each(in_turn(SHAPES)), ids=str)
# The reductions sum and mean run batchmean's kernels, so they need few cases of their own.
WAYS = [*product(("none", "sample", "batchmean"), (False, True)), ("sum", False), ("mean", False)]
LOSSES = [(*case, *WAYS[(3 * k + i) % len(WAYS)]) for k, case in enumerate(in_turn(SHAPES)) for i in (0, 1)]
NOISE = pyebm.Noise(2**63 + 12345, step=7, stream=2**32 - 1, first_sample=11)


def data(shape, dtype, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def levels(batch, dtype=torch.float32):
    return (torch.rand(batch, generator=torch.Generator().manual_seed(9), dtype=torch.float64) + 0.1).to(
        dtype
    )


def assert_same(call, **tolerance):
    """Asserts that call("triton") and call("reference") give the same bits (sums: within
    tolerance), dtypes and strides."""
    ours, theirs = (
        result if isinstance(result, tuple) else (result,) for result in map(call, ("triton", "reference"))
    )
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert a.stride() == b.stride()
        if tolerance:
            torch.testing.assert_close(a, b, equal_nan=True, **tolerance)
        else:
            assert torch.equal(a, b)


@pytest.fixture(autouse=True)
def _poison():
    """Fills the memory of torch.empty with NaN, so that an element which a kernel forgot to
    write shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@IN_TURN
def test_normals(shape, dtype):
    assert_same(lambda backend: NOISE.randn(shape, dtype=dtype, backend=backend))


@IN_TURN
@pytest.mark.parametrize("per_sample", [False, True])
def test_perturb(shape, dtype, per_sample):
    x = data(shape, dtype)
    sigma = levels(shape[0]) if per_sample else 0.3
    assert_same(lambda backend: pyebm.perturb(x, sigma, NOISE, alpha=0.7, backend=backend))


@IN_TURN
def test_langevin_step(shape, dtype):
    x, score = data(shape, dtype), data(shape, dtype, seed=1)
    assert_same(lambda backend: pyebm.langevin_step(x, score, 0.1, NOISE, backend=backend))

    def in_place(backend):
        state = x.clone()
        assert pyebm.langevin_step_(state, score, 0.1, NOISE, temperature=0.5, backend=backend) is state
        return state

    assert_same(in_place)


@IN_TURN
def test_step_with_every_option(shape, dtype):
    x, score = data(shape, dtype), data(shape, dtype, seed=1)
    if x.numel():
        x.view(-1)[-1] = float("nan")
    options = {"mask": data(shape, dtype, seed=2) > 0, "return_mean": True, "clamp": (None, 0.5)}
    rows = levels(shape[0], torch.float64)

    def nan_as_number(results):
        return tuple(r.nan_to_num(nan=77.0) for r in results)

    assert_same(
        lambda backend: nan_as_number(
            pyebm.langevin_step(
                x, score, rows, NOISE, temperature=0.3, score_clip=0.4, backend=backend, **options
            )
        )
    )
    assert_same(
        lambda backend: nan_as_number(
            pyebm.affine_step(x, score, 0.9, rows, rows.float(), NOISE, backend=backend, **options)
        )
    )
    assert_same(
        lambda backend: nan_as_number(
            pyebm.affine_step(x, score, 0.9, 0.2, 0.1, NOISE, backend=backend, **options)
        )
    )


def _loss_and_grad(loss, pred, *args, **kwargs):
    pred = pred.clone().requires_grad_()
    value = loss(pred, *args, **kwargs)
    (grad,) = torch.autograd.grad(value, pred, torch.full_like(value, 1.5))
    return value.detach(), grad


@pytest.mark.parametrize(("shape", "dtype", "reduction", "per_sample"), LOSSES, ids=str)
def test_dsm_loss(shape, dtype, reduction, per_sample):
    score = data(shape, dtype)
    sigma = levels(shape[0]) if per_sample else 0.3
    results = {
        backend: _loss_and_grad(pyebm.dsm_loss, score, sigma, NOISE, reduction=reduction, backend=backend)
        for backend in ("triton", "reference")
    }
    assert_same(lambda backend: results[backend][1])
    exact = reduction == "none"
    assert_same(lambda backend: results[backend][0], **({} if exact else {"rtol": 2e-6, "atol": 0}))


@pytest.mark.parametrize("noise", [NOISE, None], ids=["named", "tensor"])
def test_denoising_loss_with_x0(dtype, noise):
    shape = (3, 72)
    pred, x0 = data(shape, dtype), data(shape, dtype, seed=1)
    noise = data(shape, dtype, seed=2) if noise is None else noise
    rows = levels(3)
    for reduction in ("none", "sample"):
        results = {
            backend: _loss_and_grad(
                pyebm.denoising_loss,
                pred,
                noise,
                lam=-rows,
                mu=0.4,
                x0=x0,
                weight=rows,
                half=True,
                reduction=reduction,
                backend=backend,
            )
            for backend in ("triton", "reference")
        }
        assert_same(lambda backend, results=results: results[backend][1])
        assert_same(lambda backend, results=results: results[backend][0], rtol=2e-6, atol=0)


def test_second_order(dtype):
    """create_graph composes the gradient from torch operations around the kernel's own noise."""

    def product(backend):
        score = data((3, 7), dtype).requires_grad_()
        loss = pyebm.dsm_loss(score, 0.3, NOISE, reduction="sample", backend=backend)
        (grad,) = torch.autograd.grad(loss.sum(), score, create_graph=True)
        (second,) = torch.autograd.grad(grad.float().square().sum(), score)
        return grad.detach(), second

    assert_same(product)


@pytest.mark.parametrize(
    "noise",
    [
        pyebm.Noise(torch.tensor([3, -1, 2**62]), first_sample=2**32 - 3),
        pyebm.Noise(5, sample_ids=torch.tensor([2**32 - 1, 0, 77]), step=2**32 - 1),
        pyebm.Noise(torch.tensor([3, 3, 4]), sample_ids=torch.tensor([0, 1, 1])),
    ],
    ids=["seeds", "ids", "both"],
)
@pytest.mark.parametrize("shape", [(3, 6), (3, 2052)], ids=str)
def test_seeds_and_ids(noise, shape):
    assert_same(lambda backend: noise.randn(shape, backend=backend))
    x = data(shape, torch.bfloat16)
    assert_same(lambda backend: pyebm.langevin_step(x, -x, 0.1, noise, backend=backend))


def _layouts():
    base = data((3, 8, 4, 5), torch.float32)
    yield "channels_last", base.contiguous(memory_format=torch.channels_last)
    yield "transposed", base.transpose(1, 3)
    yield "strided", base[:, ::2]
    yield "expanded", base[:, :1].expand(-1, 8, -1, -1)
    yield "misaligned", torch.cat([base.flatten(), base.flatten()[:1]])[1:].reshape(base.shape)
    yield "cut rows", base.flatten(1)[:, :157]


@pytest.mark.parametrize("x", [pytest.param(x, id=name) for name, x in _layouts()])
def test_layouts(x: Tensor):
    score = x.flip(0)
    assert_same(lambda backend: pyebm.perturb(x, 0.3, NOISE, backend=backend))
    assert_same(
        lambda backend: pyebm.langevin_step(
            x, score, 0.1, NOISE, return_mean=True, mask=x[:, :1] > 0, backend=backend
        )
    )
    assert_same(
        lambda backend: _loss_and_grad(pyebm.dsm_loss, x, 0.3, NOISE, reduction="none", backend=backend)
    )
    if x.is_contiguous() or x._is_view() is False:
        assert_same(lambda backend: pyebm.langevin_step_(x.clone(), score, 0.1, NOISE, backend=backend))


def test_a_samples_loss_does_not_depend_on_its_batch():
    score = data((40, 200), torch.float32)
    whole = pyebm.dsm_loss(score, 0.3, NOISE, reduction="sample", backend="triton")
    part = pyebm.dsm_loss(score[30:], 0.3, NOISE.shard(first_sample=41), reduction="sample", backend="triton")
    assert torch.equal(whole[30:], part)


# A tile holds no whole sample here: the shapes give padded tiles, whole ones, and one element more.
class TestLongSamplesOfCoupledTargets:
    LONG = (((2, 1025), torch.float32), ((1, 3072), torch.bfloat16), ((1, 4100), torch.float64))

    @pytest.mark.parametrize(("kind", "long"), thinned(product(COUPLED, LONG), len(LONG) + 1), ids=str)
    def test_score_and_chain(self, kind, long):
        shape, dtype = long
        target, x = make(kind, shape[1]), start(shape, dtype)
        for backend in ("cpu", "triton"):
            assert torch.equal(target.score(x, backend=backend), target.score(x, backend="reference"))
        assert_same(lambda backend: pyebm.langevin_chain(x, target, 3, 0.003, NOISE, thin=2, backend=backend))
        one = pyebm.langevin_chain(
            x[-1:], target, 2, 0.003, NOISE.shard(first_sample=10 + shape[0]), backend="triton"
        )
        assert torch.equal(one, pyebm.langevin_chain(x, target, 2, 0.003, NOISE, backend="cpu")[-1:])

    @pytest.mark.parametrize("kind", thinned(((kind,) for kind in COUPLED), 2))
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy warns of inf - inf
    def test_every_option(self, kind):
        """One element is not finite: it spreads by sums or to its neighbours, within its own
        sample alone, and the chain reports it."""
        target, x = make(kind, 1100), start((3, 1100))
        x[1, 1000] = float("inf")
        step_size = torch.tensor([0.001, 0.002, 0.003])
        options = {
            "temperature": [1.0, 0.5],
            "clamp": (-2.0, None),
            "thin": 1,
            "return_diverged": True,
        }
        ours, theirs = (
            pyebm.langevin_chain(x, target, 2, step_size, NOISE, backend=backend, **options)
            for backend in ("triton", "cpu")
        )
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        assert ours[2].tolist() == [-1, 0, -1]

    @pytest.mark.parametrize("kind", thinned(((kind,) for kind in COUPLED), 2))
    def test_layouts(self, kind):
        x = start((2, 3, 20, 20)).contiguous(memory_format=torch.channels_last)
        target = make(kind, 1200)
        assert_same(lambda backend: target.score(x, backend=backend))
        assert_same(lambda backend: pyebm.langevin_chain(x, target, 1, 0.003, NOISE, backend=backend))


def test_bad_input():
    x = data((3, 4), torch.float32)
    with pytest.raises(ValueError, match="sigma must be >= 0 and finite, got -1 for sample 1"):
        pyebm.perturb(x, torch.tensor([1.0, -1.0, 0.0]), NOISE, backend="triton")
    with pytest.raises(ValueError, match="temperature must be >= 0 and finite, got nan for sample 0"):
        pyebm.langevin_step(
            x, x, 0.1, NOISE, temperature=torch.tensor([float("nan"), 1.0, 1.0]), backend="triton"
        )
    both = data((2, 4), torch.float32).flatten()
    with pytest.raises(ValueError, match="must not overlap out in part"):
        pyebm.langevin_step_(both[:6].view(2, 3), both[2:].view(2, 3), 0.1, NOISE, backend="triton")
    with pytest.raises(ValueError, match=r"sample ids must be in \[0, 2\*\*32\)"):
        pyebm.kernels.OPS["normal_"](x, torch.tensor([0, 2**32 - 2, 0, 0]))
