"""network_score and network_chain are right, and a sample has the same bits whatever is computed
beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from cases import assert_equal
from network_cases import FUNCTIONS, Layer, Network, network
from torch import Tensor

from pyebm import _ops, reference

# Relative to the largest score or energy: a few times the rounding of sums with as many terms.
BOUND = {torch.float32: 6e-6, torch.float64: 1.5e-14}
OPS = torch.ops.pyebm
NAME = torch.tensor([3, 0, 4, 0])  # the name of the noise

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


def has(level: str) -> bool:
    before = _ops.simd()
    try:
        _ops.simd(level)
    except ValueError:
        return False
    _ops.simd(before)
    return True


LEVELS = [level for level in ("baseline", "avx2", "avx512") if has(level)]


@pytest.fixture(autouse=True)
def keep_level() -> Iterator[None]:
    before = _ops.simd()
    yield
    _ops.simd(before)


def scored(
    net: Network, x: Tensor, biases: Tensor | None = None, op=OPS.network_score
) -> tuple[Tensor, Tensor | None]:
    layout, params = net.packed(torch.float64 if x.dtype == torch.float64 else torch.float32)
    score = torch.empty_like(x)
    energy = x.new_empty(x.shape[:1], dtype=params.dtype) if net.kind == "energy" else None
    op(score, x, layout, params, None if biases is None else biases.to(params.dtype), energy)
    return score, energy


def at_levels(
    net: Network, x: Tensor, biases: Tensor | None = None
) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Computes the results at every level and by the reference; all levels that have a fused
    multiply-add must give the same bits."""
    found = {"reference": scored(net, x, biases, reference.OPS["network_score"])}
    for level in LEVELS:
        _ops.simd(level)
        found[level] = scored(net, x, biases)
    fused = [found[level] for level in LEVELS if level != "baseline"]
    for other in fused[1:]:
        assert_equal(other[0], fused[0][0])
        if other[1] is not None:
            assert_equal(other[1], fused[0][1])
    return found


def assert_right(net: Network, x: Tensor) -> None:
    want = net.truth(x)
    for level, got in at_levels(net, x).items():
        for one, truth in zip(got, want, strict=True):
            if truth is not None:
                worst = (one.double() - truth.detach()).abs().max() / truth.abs().max()
                assert worst <= BOUND[x.dtype], (level, float(worst))


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


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


def chain(
    net: Network, x: Tensor, steps: int = 5, op=OPS.network_chain, biases: Tensor | None = None, **options
) -> Tensor:
    layout, params = net.packed(torch.float64 if x.dtype == torch.float64 else torch.float32)
    out = x.clone()
    numbers = options.pop("step_size", 0.01), options.pop("temperature", 1.0)
    if biases is not None:
        options["biases"] = biases.to(params.dtype)
    op(out, layout, params, steps, *numbers, options.pop("name", NAME), **options)
    return out


def loop(net: Network, x: Tensor, steps: int = 5, biases: Tensor | None = None, **options) -> list[Tensor]:
    """Takes the steps one by one."""
    rows, now, states = {}, x.clone(), []
    for k in range(steps):
        for key in ("step_size", "temperature"):
            values, per_step = options.get(f"{key}_rows"), options.get(f"{key}_per_step")
            rows[f"{key}_rows"] = values[k : k + 1] if per_step else values
        at = biases[k : k + 1] if options.get("biases_per_step") else biases
        kept = {key: options[key] for key in ("low", "high", "score_clip", "seeds", "ids") if key in options}
        name = NAME + torch.tensor([0, 0, k, 0])
        OPS.langevin_step(now, None, scored(net, now, at)[0], 0.01, 1.0, name, **rows, **kept)
        states.append(now.clone())
    return states


@pytest.mark.parametrize("dtype", [*BOUND, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("kind", "batch", "dim"), [("energy", 21, 2), ("score", 3, 5), ("energy", 18, 70)])
class TestChain:
    def test_is_the_loop(self, kind, batch, dim, dtype):
        net, x = network(kind, dim, (24, 24), residual=(1,)), normal(batch, dim, dtype=dtype)
        draw = torch.Generator().manual_seed(1)
        for options in (
            {},
            {"low": -0.8, "high": 0.9, "score_clip": 0.5},
            {
                "step_size_rows": torch.rand(batch, generator=draw),
                "temperature_rows": torch.rand(batch, generator=draw),
            },
            {"step_size_rows": torch.rand(5, generator=draw).double() / 50, "step_size_per_step": True},
            {"seeds": torch.arange(batch) * 2**40, "ids": torch.arange(batch).flip(0).contiguous()},
        ):
            want = loop(net, x, **options)
            states = x.new_empty(2, *x.shape)
            assert_equal(chain(net, x, states=states, thin=2, **options), want[-1])
            assert_equal((states[0], states[1]), (want[1], want[3]))

    def test_is_near_the_reference(self, kind, batch, dim, dtype):
        net, x = network(kind, dim, (24, 24)), normal(batch, dim, dtype=dtype)
        far = 4 * torch.finfo(dtype).eps * x.abs().max() * 5
        assert (chain(net, x) - chain(net, x, op=reference.OPS["network_chain"])).abs().max() <= far

    def test_biases(self, kind, batch, dim, dtype):
        """Biases for all samples, for each sample or for each step act like those of a network
        that has them."""
        net, x = network(kind, dim, (24, 24)), normal(batch, dim, dtype=dtype)
        all_of_them = net.biases() + normal(max(batch, 5), len(net.biases()), seed=2).double()

        def with_biases(biases: Tensor) -> Network:
            parts = biases.split([len(layer.bias) for layer in net.layers])
            layers = [
                Layer(layer.weight, part, layer.activation)
                for layer, part in zip(net.layers, parts, strict=True)
            ]
            return Network(net.kind, net.dim, layers, net.quadratic)

        assert_equal(scored(net, x, all_of_them[:1])[0], scored(with_biases(all_of_them[0]), x)[0])
        each = scored(net, x, all_of_them[:batch])[0]
        for b in range(batch):
            assert_equal(each[b : b + 1], scored(with_biases(all_of_them[b]), x[b : b + 1])[0])
        for biases, options in ((all_of_them[:batch], {}), (all_of_them[:5], {"biases_per_step": True})):
            assert_equal(chain(net, x, biases=biases, **options), loop(net, x, biases=biases, **options)[-1])
        far = 8 * torch.finfo(torch.float32 if dtype != torch.float64 else dtype).eps
        want, _ = reference.OPS["network_score"], None
        if dtype in BOUND:
            assert (each - scored(net, x, all_of_them[:batch], want)[0]).abs().max() <= far * each.abs().max()

    def test_is_cut_anywhere(self, kind, batch, dim, dtype):
        net, x = network(kind, dim, (24, 24)), normal(batch, dim, dtype=dtype)
        for cut in (0, 1, 4):
            rest = chain(net, chain(net, x, cut), 5 - cut, name=NAME + torch.tensor([0, 0, cut, 0]))
            assert_equal(rest, chain(net, x))


def test_divergence_is_reported():
    net, x = network("energy", 2, (16,), quadratic=-30.0), normal(20, 2)
    x[7], x[11, 1] = 1e37, math.nan
    diverged = torch.empty(20, dtype=torch.int64)
    got = chain(net, x, 3, diverged=diverged)
    assert_equal(diverged.ge(0), ~got.isfinite().all(1))
    assert diverged[11] == 0
    assert diverged[7] >= 0
    assert diverged[0] == -1


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
