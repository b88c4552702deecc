"""Learned targets under torch.compile and export, on meta tensors, in autograd's modes, as
DTensors."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from cases import assert_equal, normal
from learned_cases import mlp
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing._internal.two_tensor import TwoTensor

import pyebm
from pyebm import Noise
from pyebm.targets import MLPEnergy, MLPScore

F64 = torch.float64
NOISE = Noise(3, step=2)
close = torch.testing.assert_close


class TestSurroundings:
    @pytest.mark.filterwarnings("ignore")  # torch warns while it compiles
    def test_compiled(self):
        target, level, x = MLPEnergy(mlp(2, 1), 0.5), MLPScore(mlp(3, 2), condition=1), normal(4, 2)
        annealed = pyebm.samplers.AnnealedLangevin(level, [1.0, 0.5], 0.1, 2)
        for function in (
            target.score,
            target,
            lambda x: pyebm.langevin_chain(x, target, 3, 0.1, NOISE),
            lambda x: pyebm.langevin_chain(x, target, 3, 0.1, NOISE, differentiable=True),
            lambda x: level(x, x[:, 0]),
            lambda x: annealed(x, noise=0),
        ):
            assert_equal(torch.compile(function, fullgraph=True, backend="aot_eager")(x), function(x))

    @pytest.mark.filterwarnings("ignore")
    def test_exported(self):
        class Chain(nn.Module):
            def __init__(self):
                super().__init__()
                self.target = MLPEnergy(mlp(2, 1), 0.5)

            def forward(self, x):
                return pyebm.langevin_chain(x, self.target, 3, 0.1, NOISE)

        model, x = Chain(), normal(4, 2)
        assert_equal(torch.export.export(model, (x,)).module()(x), model(x))

    def test_meta(self):
        with torch.device("meta"):
            target = MLPEnergy(nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 1)))
            x = torch.empty(4, 2)
        assert repr(target)
        for made in (
            target.score(x),
            pyebm.langevin_chain(x, target, 3, 0.1, NOISE),
            pyebm.samplers.Langevin(target, 0.1)(x, 3, noise=0),
        ):
            assert made.is_meta
            assert made.shape == x.shape
        assert target(x).shape == (4,)

    def test_modes(self):
        """Autocast, inference mode and the default dtype change no bit."""
        target, x = MLPEnergy(mlp(2, 1), 0.5), normal(4, 2)

        def all_of():
            return [
                target(x),
                target.score(x),
                target.hvp(x, x),
                pyebm.langevin_chain(x, target, 3, 0.1, NOISE),
            ]

        want = all_of()
        with torch.autocast("cpu", torch.bfloat16):
            assert_equal(all_of(), want)
        with torch.inference_mode():
            assert_equal([one.clone() for one in all_of()], [one.detach() for one in want])
        torch.set_default_dtype(F64)
        try:
            assert_equal(all_of(), want)
        finally:
            torch.set_default_dtype(torch.float32)

    def test_reference(self):
        target, x = MLPEnergy(mlp(2, 1), 0.5), normal(4, 2)
        with torch.no_grad():
            close(target.score(x, backend="reference"), target.score(x))
        made = pyebm.langevin_chain(x, target, 3, 0.1, NOISE, backend="reference")
        close(made, pyebm.langevin_chain(x, target, 3, 0.1, NOISE))

    def test_subclasses(self):
        """For tensors with operations of their own, an energy is the module's own operations; a
        score refuses them, as every target's does."""
        target, x = MLPEnergy(mlp(2, 1), 0.5), normal(4, 2)
        both = TwoTensor(x.clone(), x.clone())
        close(target(both).a, target(x))
        with pytest.raises(TypeError, match="score: x must be a plain tensor or a DTensor, got TwoTensor"):
            target.score(both)
        assert_equal(target.score(nn.Parameter(x)).detach(), target.score(x).detach())

    @pytest.mark.skipif(
        not (dist.is_available() and dist.is_gloo_available()), reason="torch has no gloo here"
    )
    def test_dtensor(self, tmp_path):
        """Sharded by samples: the chain is a constant; energies and scores work where nothing
        requires grad."""
        from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
        try:
            target, x = MLPEnergy(mlp(2, 1), 0.5), normal(4, 2)
            sharded = distribute_tensor(x, init_device_mesh("cpu", (1,)), [Shard(0)])
            chain = pyebm.langevin_chain(sharded, target, 3, 0.1, NOISE)
            assert_equal(chain.to_local(), pyebm.langevin_chain(x, target, 3, 0.1, NOISE))
            for call in (
                target,
                target.score,
                lambda x: pyebm.langevin_chain(x, target, 3, 0.1, NOISE, differentiable=True),
            ):
                with pytest.raises(ValueError, match="must not require grad where x is a DTensor"):
                    call(sharded)
                with torch.no_grad():
                    assert_equal(call(sharded).to_local(), call(x))
        finally:
            dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["energy", "score"])
def test_tangents_of_the_parameters_alone(kind):
    """In forward mode, without a transform and whether or not autograd records."""
    target = MLPEnergy(mlp(3, 1, dtype=F64), 0.1) if kind == "energy" else MLPScore(mlp(3, 3, dtype=F64))
    x = normal(5, 3, dtype=F64)
    calls = {
        "score": target.score,
        "denoising": lambda x: pyebm.denoising_score_matching(target, x, 0.5, NOISE),
        "exact": lambda x: pyebm.score_matching(target, x),
    }
    if kind == "energy":
        calls |= {"energy": target.energy, "cd": lambda x: pyebm.contrastive_divergence(target, x, x + 1)}
    first = target.net[0]
    weight, change = first.weight.detach(), normal(*first.weight.shape, dtype=F64, seed=4)
    for name, call in calls.items():
        moved = []
        for sign in (1e-6, -1e-6):
            first._parameters["weight"] = weight + sign * change
            moved.append(call(x).detach())
        with forward_ad.dual_level(), torch.set_grad_enabled(name != "energy"):
            first._parameters["weight"] = forward_ad.make_dual(weight, change)
            tangent = forward_ad.unpack_dual(call(x)).tangent
        want = (moved[0] - moved[1]) / 2e-6
        torch.testing.assert_close(
            tangent, want, rtol=1e-5, atol=1e-7, msg=lambda text, of=name: f"{of}: {text}"
        )
        assert want.abs().max() > 1e-3


def test_a_traced_backward_pass():
    """The parts of the gradient are in the trace, where the gradient from above is an input."""
    target, x = MLPEnergy(mlp(3, 1)), normal(5, 3)
    parameters = list(target.net.parameters())
    loss = target.energy(x).sum()

    def backward(above: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(loss, parameters, above, retain_graph=True)

    graph, above = make_fx(backward)(torch.tensor(1.0)), torch.tensor(-2.0)
    for one, other in zip(graph(above), backward(above), strict=True):
        assert_equal(one, other)
