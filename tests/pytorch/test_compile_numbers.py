"""Numbers that change from call to call in compiled code: clamps, clips, and those of a sampler
that is made in compiled code."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from torch._dynamo.testing import CompileCounterWithBackend

import pyebm
from pyebm import Noise, langevin_step
from pyebm.samplers import Langevin

X, S, NOISE = normal(8, 3), normal(8, 3, seed=1), Noise(0)
CALLS = {
    "clamp": lambda x, a: langevin_step(x, S, 0.1, NOISE, clamp=(-a, a)),
    "a side": lambda x, a: langevin_step(
        x.bfloat16(), S.bfloat16(), 0.1, NOISE, clamp=(None, a), score_clip=0.5
    ),
    "score_clip": lambda x, a: langevin_step(x.half(), S.half(), 0.1, NOISE, score_clip=a),
    "a sampler's step size": lambda x, a: Langevin(lambda x: -x, a)(x, 2, noise=NOISE),
    "a sampler's temperature": lambda x, a: Langevin(pyebm.targets.DoubleWell(), 0.1, temperature=a)(
        x, 2, noise=NOISE
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_two_compilations(name):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(CALLS[name], fullgraph=True, backend=counter)
    for a in (0.5, 0.4, 0.3, 0.7):
        assert_equal(compiled(X, a), CALLS[name](X, a))
    assert counter.frame_count <= 2
