"""predicted_step: the two affine steps that it stands for, to the bit, in every layout and
dtype; and the schedulers' call of it."""

from __future__ import annotations

import pytest
import torch
from cases import SHAPES, assert_equal, in_turn, name_of, normal

from pyebm import Noise, _ops, affine_step
from pyebm.integrations import _draws

pytestmark = [
    pytest.mark.usefixtures("poison"),
    pytest.mark.skipif(_ops.backends()["cpu"] is not True, reason="the CPU library is not built"),
]
NUMBERS = (1.3, -0.7, 0.4, 0.5)


def two_steps(x, g, c, noise, clamp):
    a, b, of_x, of_x0 = NUMBERS
    x0 = affine_step(x, g, a, b, 0.0, noise, clamp=clamp, backend="reference")
    return x0, affine_step(x, x0, of_x, of_x0, c, noise, backend="reference")


def one_step(op, x, g, c, noise, clamp):
    out, x0 = torch.empty_like(x), torch.empty_like(x)
    name, seeds, ids = noise._named(len(x), x)
    op(out, x0, x, g, *NUMBERS, c, name, *(clamp or (None, None)), seeds, ids)
    return x0, out


@pytest.mark.parametrize(("shape", "dtype"), in_turn(SHAPES), ids=name_of)
def test_equals_two_steps(shape, dtype):
    x, g = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    ops = [_ops.kernels(name, x)["predicted_step"] for name in ("cpu", "reference")]
    own = Noise(torch.arange(len(x)) % 3, sample_ids=torch.arange(len(x)).flip(0))
    for c, noise, clamp in ((0.6, Noise(3, step=4), (-0.5, 0.9)), (0.0, Noise(1), None), (0.3, own, None)):
        wanted = two_steps(x, g, c, noise, clamp)
        for op in ops:
            assert_equal(one_step(op, x, g, c, noise, clamp), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=name_of)
def test_strides(dtype):
    x = normal(5, 3, 7, 40, dtype=dtype).to(memory_format=torch.channels_last)
    g = normal(5, 40, 7, 3, dtype=dtype, seed=1).permute(0, 3, 2, 1)
    op = _ops.kernels("cpu", x)["predicted_step"]
    assert_equal(one_step(op, x, g, 0.6, Noise(3), (-1.0, 1.0)), two_steps(x, g, 0.6, Noise(3), (-1.0, 1.0)))


def test_adapters_call_it_where_nothing_follows(monkeypatch):
    x, g = normal(4, 3, 8), normal(4, 3, 8, seed=1)
    a, b, of_x, of_x0 = NUMBERS
    calls, kernels = [], dict(_ops.kernels(None, x))

    def counted(*args):
        calls.append("predicted_step")
        return kernels["predicted_step"](*args)

    monkeypatch.setitem(_ops._REGISTERED, "predicted_step", counted)
    wanted = two_steps(x, g, 0.6, Noise(3), (-1.0, 1.0))
    for follows in (False, True):
        held = x.clone().requires_grad_(follows)
        made = _draws.predicted_step(held, g, (a, b), of_x, of_x0, 0.6, Noise(3), clamp=(-1.0, 1.0))
        assert_equal(tuple(one.detach() for one in made), wanted)
        assert all(one.requires_grad == follows for one in made)
    assert calls == ["predicted_step"]
