"""The networks' CUDA kernels, emulated: the bits of the CPU's kernels, with all, some or none of a
block's numbers in shared memory."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal
from emulated import BACKEND
from learned_cases import mlp
from network_calls import NAME, chain, normal, painting, scored
from network_cases import FUNCTIONS, far_out, network
from target_cases import loop
from test_emulated import under_sanitizer

import pyebm
from pyebm import Noise, _ops
from pyebm.samplers import HMC, MALA, AnnealedLangevin, Langevin, UnderdampedLangevin
from pyebm.targets import MLPEnergy, MLPScore

pytestmark = [
    pytest.mark.usefixtures("poison", "one_thread"),
    pytest.mark.skipif(_ops.simd() == "baseline", reason="without a fused multiply-add the bits are others"),
]
OPS = _ops._TEST_BACKENDS[BACKEND]
SCORE, CHAIN = OPS["network_score"], OPS["network_chain"]
NETWORKS = {
    "plain": (network("energy", 2, (20, 67)), 21),
    "score": (network("score", 5, (24, 130), ("gelu", "elu")), 3),
    "wired": (network("energy", 18, (18, 70, 70), "tanh", (0, 2), (0, 2, 3)), 35),
    "skips": (network("score", 70, (33,), "softplus", skip=(0, 1), quadratic=-0.3), 19),
    "deep": (network("energy", 3, (5,) * 8, ("silu", "gelu_tanh") * 4, last="sigmoid"), 17),
    "alone": (network("energy", 1, (), residual=(0,)), 5),
    "wide": (network("energy", 2, (72, 72)), 20),  # the weights are more than two tiles' activations
}
# What shared memory is enough for: all numbers, the activations of a tile, or neither.
SHARED = ("all", "activations", "none")


def hold(monkeypatch, what, net, item=4, twice=False):
    """Gives a block just the shared memory that it takes to hold this of the network, with 16
    samples a tile, or activations with 32 where the weights would not fit beside those of 16.
    twice: for second derivatives, whose tiles of 16 have all numbers or none."""

    def pitch(n):
        return 4 * (-(-n // 4) | 1)

    outs = [len(layer.bias) for layer in net.layers]
    is_energy = net.kind == "energy"
    room = pitch(net.dim) * (1 + is_energy + twice) + 2 * max(map(pitch, outs))
    room += is_energy * (4 if twice else 1) * sum(map(pitch, outs))
    weights = 0
    for layer, inputs in zip(net.layers, (net.dim, *outs), strict=False):
        weights += len(layer.bias) * (pitch(inputs) + layer.skip * pitch(net.dim))
    activations = 32 * room if twice or weights > 16 * room else 16 * room
    size = {"all": 16 * room + weights, "activations": activations, "none": 16 * room - 1}[what]
    monkeypatch.setenv("PYEBM_EMULATOR_SHARED", str(item * size))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("held", SHARED)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_cpus_bits(monkeypatch, name, held, dtype):
    net, batch = NETWORKS[name]
    hold(monkeypatch, held, net, 8 if dtype == torch.float64 else 4)
    x = normal(batch, net.dim, dtype=dtype)
    assert_equal(scored(net, x, op=SCORE), scored(net, x))
    assert_equal(chain(net, x, op=CHAIN), chain(net, x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_every_activation(activation, dtype):
    """Also far out, and where it is not finite."""
    net = network("energy", 1, (3,), activation, last=activation)
    x = far_out(60, dtype)
    for got, want in zip(scored(net, x, op=SCORE), scored(net, x), strict=True):
        assert_equal(got.nan_to_num(7.0), want.nan_to_num(7.0))


@pytest.mark.parametrize("held", SHARED)
@pytest.mark.parametrize("name", ["plain", "skips"])
def test_every_option_of_a_chain(monkeypatch, name, held):
    net, batch = NETWORKS[name]
    hold(monkeypatch, held, net)
    x = normal(batch, net.dim)
    x[1, 0], x[2, -1] = math.nan, 1e37
    draw = torch.Generator().manual_seed(1)
    rows, each = torch.rand(batch, generator=draw), torch.rand(5, generator=draw).double() / 50
    biases = net.biases() + normal(max(batch, 5), len(net.biases()), seed=2).double()
    cases = (
        {"low": -0.8, "high": 0.9},
        {"step_size_rows": rows, "temperature_rows": rows[:1]},
        {"step_size_rows": each, "step_size_per_step": True},
        {"step_size_rows": each, "step_size_per_step": True, "temperature_rows": rows},
        {"seeds": torch.arange(batch) * 2**40, "ids": torch.arange(batch).flip(0).contiguous()},
        {"biases": biases[:1]},
        {"biases": biases[:batch]},
        {"biases": biases[:5], "biases_per_step": True},
        {"score_clip": 0.3, "low": -0.8},
        {"mask": x > 0, "score_clip": 0.3},
        painting(x, 5),
    )
    for options in cases:
        made = []
        for op in (CHAIN, torch.ops.pyebm.network_chain):
            states, diverged = x.new_empty(2, *x.shape), torch.empty(batch, dtype=torch.int64)
            made.append((chain(net, x, op=op, states=states, thin=2, diverged=diverged, **options), states))
            made[-1] = tuple(one.nan_to_num(7.0) for one in made[-1]), diverged
        assert_equal(made[0][0], made[1][0])
        assert_equal(made[0][1], made[1][1])


@pytest.mark.parametrize(("name", "held"), [("deep", None), ("wide", "activations")])
def test_large_tiles(monkeypatch, name, held):
    """From 4096 samples on a tile has 32 of them."""
    net, _ = NETWORKS[name]
    if held:
        hold(monkeypatch, held, net)
    x = normal(4097, net.dim)
    assert_equal(scored(net, x, op=SCORE), scored(net, x))
    assert_equal(chain(net, x, 1, op=CHAIN), chain(net, x, 1))


def test_more_tiles_than_blocks(monkeypatch):
    """Blocks whose rooms are in global memory take one tile after another."""
    net = network("energy", 2, (4,))
    hold(monkeypatch, "none", net)
    x = normal(264 * 16 + 5, 2)
    assert_equal(chain(net, x, 2, op=CHAIN), chain(net, x, 2))
    assert_equal(scored(net, x, op=SCORE), scored(net, x))


def test_samples_of_many_elements():
    for net in (network("energy", 1500, (9,), skip=(1,)), network("score", 1030, (8,))):
        x = normal(3, net.dim)
        assert_equal(scored(net, x, op=SCORE), scored(net, x))


@pytest.mark.parametrize("held", SHARED)
def test_every_thread_order_gives_the_same_bits(monkeypatch, held):
    net, _ = NETWORKS["wired"]
    hold(monkeypatch, held, net)
    x = normal(18, net.dim)
    want = scored(net, x), chain(net, x, 2, **painting(x, 2))
    for order in range(1, 9):
        monkeypatch.setenv("PYEBM_EMULATOR_SEED", str(order))
        assert_equal(scored(net, x, op=SCORE), want[0])
        assert_equal(chain(net, x, 2, op=CHAIN, **painting(x, 2)), want[1])


def test_strides_and_a_loss_of_one_of_the_results():
    net = network("energy", 36, (9,))
    plain = normal(2, 6, 6)
    x = plain.transpose(1, 2).contiguous().transpose(1, 2)
    layout, params = net.packed()
    want, energies = scored(net, plain.flatten(1))
    score, energy = torch.empty_like(x), torch.empty(2, dtype=torch.float64)
    SCORE(score, x, layout, params, None, None)
    SCORE(None, x, layout, params, None, energy)
    assert_equal(score, want.view(2, 6, 6))
    assert_equal(energy.float(), energies)
    moved = x.clone()
    CHAIN(moved, layout, params, 3, 0.01, 1.0, NAME)
    assert moved.stride() == x.stride()
    assert_equal(moved, chain(net, plain.flatten(1), 3).view(2, 6, 6))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_inpainting(dtype):
    """A score_clip that half precision does not hold; a mask that samples share, and known data,
    in strides of their own."""
    net, x = network("score", 6, (9,)), normal(19, 6, dtype=dtype)
    options = painting(x, 4) | {"score_clip": 0.3001, "seeds": torch.arange(19)}
    want = chain(net, x, 4, **options)
    options["mask"] = options["mask"][:1].clone().expand(19, 6)
    shared = chain(net, x, 4, **options)
    assert not torch.equal(shared, want)
    options["known"] = options["known"].t().contiguous().t()
    assert_equal(chain(net, x, 4, op=CHAIN, **options), shared)


def test_what_does_not_fit_is_refused():
    net, x = network("energy", 2, (5,)), normal(3, 2)
    layout, params = net.packed()
    score = torch.empty_like(x)
    with pytest.raises(ValueError, match="params has fewer numbers"):
        SCORE(score, x, layout, params[:-1])
    with pytest.raises(ValueError, match="layout has fewer numbers"):
        CHAIN(x, layout[:-1], params, 2, 0.01, 1.0, NAME)
    with pytest.raises(ValueError, match="biases must have one row of 6"):
        SCORE(score, x, layout, params, torch.zeros(2, 6))
    with pytest.raises(ValueError, match="has no energy"):
        SCORE(None, x, *network("score", 2, (3,)).packed(), None, torch.empty(3))
    with pytest.raises(ValueError, match="score or energy must be given"):
        SCORE(None, x, layout, params)
    known = {"known": torch.zeros_like(x), "marginals": torch.ones(2, 2).double()}
    with pytest.raises(ValueError, match="known needs a mask"):
        CHAIN(x, layout, params, 2, 0.01, 1.0, NAME, **known)
    with pytest.raises(ValueError, match=r"marginals must have a row of 2 for each of 3 steps, got \(2, 2\)"):
        CHAIN(x, layout, params, 3, 0.01, 1.0, NAME, mask=x > 0, **known)
    for empty in (torch.empty(0, 2),):
        assert chain(net, empty, op=CHAIN).shape == empty.shape
        assert scored(net, empty, op=SCORE)[0].shape == empty.shape


class TestPublicCalls:
    NOISE = Noise(3, step=4)

    @pytest.mark.parametrize(
        "limits", [{}, {"clamp": (-1.0, 1.0)}, {"score_clip": 0.5}, {"mask": True}], ids=str
    )
    def test_a_chain_is_one_launch(self, monkeypatch, limits):
        if limits:
            monkeypatch.delitem(OPS, "langevin_step")
        x = normal(20, 3)
        if "mask" in limits:
            limits = {"mask": x > 0}
        target, options = MLPEnergy(mlp(3, 1), 0.2), {"thin": 2, "return_diverged": True, **limits}
        got = pyebm.langevin_chain(x, target, 5, 0.02, self.NOISE, backend=BACKEND, **options)
        assert_equal(got, pyebm.langevin_chain(x, target, 5, 0.02, self.NOISE, backend="cpu", **options))
        if not limits:
            assert_equal(got[:2], loop(x, target, 5, 0.02, self.NOISE, thin=2, backend=BACKEND))

    @pytest.mark.parametrize(
        "make",
        [
            lambda target, backend: Langevin(target, 0.02, backend=backend),
            lambda target, backend: UnderdampedLangevin(target, 0.1, backend=backend),
            lambda target, backend: MALA(target, 0.1, backend=backend),
            lambda target, backend: HMC(target, 0.1, 2, backend=backend),
        ],
    )
    def test_samplers(self, make):
        x, target = normal(20, 3), MLPEnergy(mlp(4, 1), 0.2, condition=1).given(torch.linspace(-1, 1, 20))
        assert_equal(*(make(target, backend)(x, 5, noise=self.NOISE) for backend in (BACKEND, "cpu")))

    @pytest.mark.parametrize("known", [False, True], ids=["free", "known"])
    def test_annealed_langevin(self, monkeypatch, known):
        monkeypatch.setitem(OPS, "perturb", None)  # a loop of steps would call it
        target, x = MLPScore(mlp(4, 3), condition=1), normal(20, 3)
        options = {"known": normal(20, 3, seed=1), "mask": x > 0, "score_clip": 0.5} if known else {}
        made = (
            AnnealedLangevin(
                target, sigmas=[1.0, 0.3], step_lr=0.01, n_steps_each=3, backend=backend, **options
            )
            for backend in (BACKEND, "cpu")
        )
        assert_equal(*(sampler(x, noise=self.NOISE) for sampler in made))


SANITIZED = """
import test_network_cuda as n, torch
from network_calls import chain, curvatures, normal, painting, scored
held = pytest.MonkeyPatch()
for name in ("plain", "wired", "skips"):
    net, batch = n.NETWORKS[name]
    for what in n.SHARED:
        for dtype in (torch.float32, torch.float64):
            n.hold(held, what, net, 8 if dtype == torch.float64 else 4)
            x = normal(18, net.dim, dtype=dtype)
            assert torch.equal(scored(net, x, op=n.SCORE)[0], scored(net, x)[0])
            options = painting(x, 2)
            assert torch.equal(chain(net, x, 2, op=n.CHAIN, **options), chain(net, x, 2, **options))
            if net.kind == "energy":
                n.hold(held, what, net, 8 if dtype == torch.float64 else 4, twice=True)
                for one, other in zip(curvatures(net, x, x, n.OPS), curvatures(net, x, x)):
                    assert torch.equal(one, other)
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_under_sanitizers(sanitizer):
    done = under_sanitizer(sanitizer, "import pytest\n" + SANITIZED, "network network_chain network_hvp")
    assert "done" in done.stdout, done.stderr[-5000:]
