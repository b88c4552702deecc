"""network_score and network_chain are right, and a sample has the same bits whatever is computed
beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from cases import assert_equal
from network_calls import BOUND, LEVELS, NAME, OPS, assert_right, at_levels, chain, normal, scored
from network_cases import FUNCTIONS, Layer, Network, network
from torch import Tensor

from pyebm import _ops

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture(autouse=True)
def keep_level() -> Iterator[None]:
    before = _ops.simd()
    yield
    _ops.simd(before)


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("kind", ["energy", "score"])
class TestTruth:
    @pytest.mark.parametrize("activation", FUNCTIONS)
    def test_every_activation(self, kind, dtype, activation):
        assert_right(
            network(kind, 3, (20, 20), (activation, "silu"), last=activation), normal(21, 3, dtype=dtype)
        )

    @pytest.mark.parametrize(
        ("residual", "skip"),
        [((1,), ()), ((1, 2), ()), ((), (1, 2, 3)), ((1,), (0, 3)), ((0, 1, 2), (0, 2))],
        ids=str,
    )
    def test_residuals_and_skips(self, kind, dtype, residual, skip):
        dim = 18 if 0 in residual else 5  # a residual layer has as many outputs as inputs
        assert_right(network(kind, dim, (18, 18, 18), "tanh", residual, skip), normal(35, dim, dtype=dtype))

    @pytest.mark.parametrize("widths", [(1,), (7, 130, 33), (5,) * 8, (512,), (100, 4, 64)], ids=str)
    @pytest.mark.parametrize("dim", [1, 50])
    def test_widths_and_depths(self, kind, dtype, widths, dim):
        for batch in (1, 6, 19):
            assert_right(
                network(kind, dim, widths, ("silu", "gelu") * 4 if len(widths) == 8 else "silu"),
                normal(batch, dim, dtype=dtype),
            )

    def test_many_dimensions(self, kind, dtype):
        assert_right(
            network(kind, 4096, (40,), "elu", skip=(1,) if kind == "energy" else ()),
            normal(3, 4096, dtype=dtype),
        )

    def test_a_layer_alone(self, kind, dtype):
        assert_right(network(kind, 4, (), last="softplus"), normal(5, 4, dtype=dtype))


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_activation_and_slope_everywhere(activation, dtype):
    """Tests a network whose score is act(x), and one whose score is -act'(x), to the last
    digits, also far out."""
    z = torch.cat(
        (torch.logspace(-12, 1.6, 300), torch.linspace(0, 30, 301), torch.tensor([80.0, 200.0, 1e4, 1e18]))
    )
    z = torch.cat((z, -z)).to(dtype)
    eye, none, one = (
        torch.eye(1, dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
        torch.ones(1, 1, dtype=torch.float64),
    )
    layer = Layer(eye, none, activation)
    truth = z.double().requires_grad_()
    value = FUNCTIONS[activation](truth)
    (slope,) = torch.autograd.grad(value.sum(), truth)
    value = value.detach()
    values = Network("score", 1, [layer])
    slopes = Network("energy", 1, [layer, Layer(one, none, "identity")])
    eps = torch.finfo(dtype).eps
    accuracy = dict.fromkeys(LEVELS, 4 * eps) | {
        "reference": 16 * eps
    }  # the error of torch's own GELU is twice ours
    for level, (got, _) in at_levels(values, z[:, None]).items():
        allowed = accuracy[level] * (value.abs() + z.double().abs().clamp(max=1))
        assert (got[:, 0] - value).abs().le(allowed).all(), level
    for level, (got, _) in at_levels(slopes, z[:, None]).items():
        assert (got[:, 0] + slope).abs().le(4 * accuracy[level]).all(), level


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_what_is_not_finite_stays_so(activation):
    net = network("energy", 2, (20,), activation)
    x = normal(40, 2)
    x[3, 0], x[20, 1] = math.nan, math.inf
    for level in LEVELS:
        _ops.simd(level)
        score, energy = scored(net, x)
        finite = torch.ones(40, dtype=torch.bool)
        finite[[3, 20]] = False
        assert not score[3].isfinite().all()
        assert not energy[3].isfinite()
        assert_equal(score[finite], scored(net, x[finite])[0])


class TestOneSample:
    """A sample's bits depend only on the sample."""

    @pytest.mark.parametrize("level", LEVELS)
    @pytest.mark.parametrize("dtype", BOUND, ids=str)
    @pytest.mark.parametrize(
        ("kind", "dim", "widths"), [("energy", 2, (33, 33)), ("score", 7, (33, 10)), ("energy", 40, (66,))]
    )
    def test_batches(self, level, dtype, kind, dim, widths):
        _ops.simd(level)
        net, x = (
            network(kind, dim, widths, residual=(1,) if widths[-1] == 33 else (), skip=(1,)),
            normal(41, dim, dtype=dtype),
        )
        whole = scored(net, x)
        for first, count in ((0, 1), (5, 1), (3, 2), (7, 5), (1, 11), (2, 16), (4, 20), (8, 33)):
            part = scored(net, x[first : first + count])
            for one, all_of_them in zip(part, whole, strict=True):
                if one is not None:
                    assert_equal(one, all_of_them[first : first + count])

    @pytest.mark.parametrize("batch", [3, 40, 200])
    def test_threads(self, batch):
        net, x = network("energy", 2, (64, 64)), normal(batch, 2)
        want = scored(net, x)[0], chain(net, x, 30)
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert_equal((scored(net, x)[0], chain(net, x, 30)), want)
        torch.set_num_threads(1)

    @pytest.mark.parametrize("shape", [(6, 2, 3), (2, 6, 6)])
    def test_layouts(self, shape):
        x = normal(*shape)
        net = network("energy", shape[1] * shape[2], (9,))
        want = scored(net, x.flatten(1))[0].view(shape)
        for strided in (x.transpose(1, 2).contiguous().transpose(1, 2), torch.stack((x, x), 3)[..., 0]):
            assert not strided.is_contiguous()
            assert_equal(scored(net, strided)[0], want)


def _wrong(**changes):
    net = network("energy", 2, (5, 5), residual=(1,))
    layout, params = net.packed()
    return changes.get("x", normal(3, 2)), changes.get("layout", layout), changes.get("params", params)


LAYOUT, PARAMS = network("energy", 2, (5, 5), residual=(1,)).packed()


def _changed(index: int, value: int) -> Tensor:
    layout = LAYOUT.clone()
    layout[index] = value
    return layout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": _changed(0, 2)}, "kind must be in"),
        ({"layout": _changed(1, 3)}, "takes samples of 3"),
        ({"layout": _changed(1, 5000)}, "dimensions must be in"),
        ({"layout": _changed(2, 0)}, "layers must be in"),
        ({"layout": _changed(2, 4)}, "layout has fewer"),
        ({"layout": _changed(2, 2)}, "last layer must have 1"),
        ({"layout": _changed(3, 513)}, "outputs must be in"),
        ({"layout": _changed(4, 10)}, "activation must be in"),
        ({"layout": _changed(5, 1)}, "residual layer must have as many"),
        ({"layout": _changed(0, 1)}, "last layer must have 2"),
        ({"layout": LAYOUT.int()}, "layout must be int64"),
        ({"layout": LAYOUT[:-1]}, "layout has fewer"),
        ({"layout": torch.cat((LAYOUT, LAYOUT[:1]))}, "layout has more"),
        ({"params": PARAMS[:-1]}, "params has fewer"),
        ({"params": torch.cat((PARAMS, PARAMS[:1]))}, "params has more"),
        ({"params": PARAMS.double()}, "params must be float32"),
        ({"x": torch.zeros(3, 3)}, "takes samples of 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused(changes, message):
    x, layout, params = _wrong(**changes)
    with pytest.raises(ValueError, match=message):
        OPS.network_score(torch.empty_like(x), x, layout, params)
    with pytest.raises(ValueError, match=message):
        OPS.network_chain(x.clone(), layout, params, 2, 0.01, 1.0, NAME)


def test_what_else_is_refused():
    x = normal(3, 2)
    score, energy = torch.empty_like(x), torch.empty(3)
    with pytest.raises(ValueError, match="biases must have one row of 11"):
        OPS.network_score(score, x, LAYOUT, PARAMS, torch.zeros(2, 11))
    with pytest.raises(ValueError, match="for each of 4 steps"):
        OPS.network_chain(
            x.clone(), LAYOUT, PARAMS, 4, 0.01, 1.0, NAME, biases=torch.zeros(3, 11), biases_per_step=True
        )
    with pytest.raises(ValueError, match="energy must have one value"):
        OPS.network_score(score, x, LAYOUT, PARAMS, None, energy[:2])
    with pytest.raises(ValueError, match="has no energy"):
        OPS.network_score(score, x, *network("score", 2, (3,)).packed(), None, energy)
    with pytest.raises(ValueError, match="step_size must be > 0"):
        OPS.network_chain(x.clone(), LAYOUT, PARAMS, 2, 0.0, 1.0, NAME, torch.tensor([1.0, -1.0, 1.0]))


def test_empty_batches():
    x = torch.empty(0, 2)
    assert scored(network(), x)[0].shape == x.shape
    assert chain(network(), x).shape == x.shape
