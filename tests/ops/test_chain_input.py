"""langevin_chain refuses bad input with nothing touched, and takes good input in several forms."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from target_cases import loop

import pyebm
from pyebm import Noise, targets

X = normal(6, 3)
WELL = targets.DoubleWell()
NOISE = Noise(0)
NAN, INF = float("nan"), float("inf")


def chain(x=X, target=WELL, n_steps=4, step_size=0.01, noise=NOISE, **options):
    return pyebm.langevin_chain(x, target, n_steps, step_size, noise, **options)


BAD = {
    "x": ({"x": [1.0]}, TypeError, "x must be a tensor, got list"),
    "x dtype": (
        {"x": X.int()},
        TypeError,
        "x must be float16, bfloat16, float32 or float64, got torch.int32",
    ),
    "x 0-dim": ({"x": torch.tensor(1.0)}, ValueError, "x must have a first dimension of samples"),
    "target": ({"target": lambda x: -x}, TypeError, "target must be one of pyebm.targets, got function"),
    "dimension": (
        {"target": targets.Gaussian(torch.zeros(4))},
        ValueError,
        r"samples of 4 elements, the target's dimension",
    ),
    "least": ({"x": X[:, :1], "target": targets.Rosenbrock()}, ValueError, "at least 2 elements"),
    "device": (
        {"target": targets.DoubleWell().to("meta")},
        ValueError,
        "must be on the target's device meta, got cpu",
    ),
    "n_steps": ({"n_steps": -1}, ValueError, "n_steps must be >= 0, got -1"),
    "n_steps float": ({"n_steps": 2.0}, TypeError, "n_steps must be an int, got 2.0"),
    "thin": ({"thin": 0}, ValueError, "thin must be >= 1 or None, got 0"),
    "thin float": ({"thin": 1.5}, TypeError, "thin must be an int or None, got 1.5"),
    "clamp": ({"clamp": (1, 0)}, ValueError, "clamp must be .* low <= high"),
    "clamp number": ({"clamp": 1.0}, TypeError, "clamp must be a pair"),
    "noise": ({"noise": 3}, TypeError, "noise must be a Noise, got int"),
    "noise batch": (
        {"noise": Noise(0, sample_ids=[0, 1])},
        ValueError,
        "sample_ids names 2 samples, got a batch of 6",
    ),
    "steps": (
        {"noise": Noise(0, step=2**32 - 3)},
        ValueError,
        r"steps must stay below 2\*\*32, got step=4294967293 and n_steps=4",
    ),
    "backend": ({"backend": "tpu"}, ValueError, "backend must be None or one of"),
    "step_size": ({"step_size": 0.0}, ValueError, "step_size must be > 0 and finite, got 0.0"),
    "step_size nan": ({"step_size": NAN}, ValueError, "step_size must be > 0 and finite, got nan"),
    "step_size text": (
        {"step_size": "1"},
        TypeError,
        "step_size must be a number or a floating-point tensor, got str",
    ),
    "temperature": ({"temperature": -1.0}, ValueError, "temperature must be >= 0 and finite, got -1.0"),
    "list length": (
        {"step_size": [0.1] * 5},
        ValueError,
        "step_size must have one number per step, 4 of them, got 5",
    ),
    "list zero": (
        {"step_size": [0.1, 0.1, 0.0, 0.1]},
        ValueError,
        r"step_size\[2\] must be > 0 and finite, got 0.0",
    ),
    "list text": ({"temperature": [0.1, "1", 0.0, 0.1]}, TypeError, r"temperature\[1\] must be a number"),
    "tensor length": (
        {"step_size": torch.ones(5)},
        ValueError,
        r"per sample, \(6,\), or per step, \(4,\), got \(5,\)",
    ),
    "tensor int": (
        {"step_size": torch.ones(4).int()},
        TypeError,
        "step_size must be .* floating-point tensor, got torch.int32",
    ),
    "schedule zero": (
        {"step_size": torch.tensor([0.1, 0.1, 0.1, 0.0])},
        ValueError,
        "step_size must be > 0 .*got 0 for step 3",
    ),
    "schedule nan": (
        {"temperature": torch.tensor([0.1, NAN, 0.1, 0.0])},
        ValueError,
        "temperature must .*got nan for step 1",
    ),
    "rows": (
        {"temperature": torch.tensor([1.0] * 5 + [INF])},
        ValueError,
        "temperature must .*got inf for sample 5",
    ),
    "either": (
        {"n_steps": 6, "step_size": torch.ones(6)},
        ValueError,
        r"\(6,\) could be one value per sample or one per step",
    ),
}


@pytest.mark.parametrize(("bad", "error", "message"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("backend", [None, "reference"])
def test_bad_input(bad, error, message, backend):
    if "backend" in bad and backend:
        pytest.skip("another backend is asked for")
    before = X.clone()
    with pytest.raises(error, match=message):
        chain(**{"backend": backend} | bad)
    assert_equal(X, before)


@pytest.mark.parametrize(
    ("op", "arguments", "message"),
    {
        "target": ("target_score", (99, torch.ones(2)), r"target must be in \[0, \d+\), got 99"),
        "params": (
            "target_score",
            (1, torch.ones(3)),
            "double_well with 3 parameters has no samples of 3 elements",
        ),
        "dtype": ("target_score", (1, torch.ones(2).double()), "params must be float32, got float64"),
        "strided": ("target_score", (1, torch.ones(4)[::2]), "params must be contiguous, got strides"),
        "chain": (
            "langevin_chain",
            (1, torch.ones(3), 2, 0.1, 1.0, NOISE._name),
            "double_well with 3 parameters",
        ),
        "steps": (
            "langevin_chain",
            (1, torch.ones(2), 2, 0.1, 1.0, Noise(0, step=2**32 - 1)._name),
            r"steps must stay below 2\*\*32",
        ),
    }.values(),
)
def test_the_op_itself_checks_what_it_reads(op, arguments, message):
    x = X.clone()
    head = (torch.empty_like(x), x) if op == "target_score" else (x,)
    with pytest.raises((ValueError, RuntimeError), match=message):
        getattr(torch.ops.pyebm, op)(*head, *arguments)
    assert_equal(x, X)


def test_ways_to_say_a_schedule():
    etas = [0.01, 0.02, 0.005, 0.03]
    want = loop(X, WELL, 4, etas, NOISE)
    assert_equal(chain(step_size=etas), want)
    assert_equal(chain(step_size=tuple(etas)), want)
    assert_equal(chain(step_size=torch.tensor(etas, dtype=torch.float64)), want)
    assert_equal(chain(step_size=torch.tensor(etas)), loop(X, WELL, 4, torch.tensor(etas).tolist(), NOISE))
    assert_equal(chain(X[:4], step_size=etas), want[:4])  # as many samples as steps: a list is one per step,
    column = torch.tensor(etas).reshape(4, 1)  # and a column is one per sample
    assert_equal(chain(X[:4], step_size=column), loop(X[:4], WELL, 4, column, NOISE))
    assert_equal(chain(X[:4], n_steps=1, step_size=[0.02]), chain(X[:4], n_steps=1, step_size=0.02))
    assert_equal(chain(n_steps=0, step_size=[]), X)


def test_ways_to_say_one_number():
    want = chain(step_size=0.25)
    full = [torch.full(shape, 0.25) for shape in ((), (1,), (6,), (6, 1), (4,))]
    for one in (*full, full[3].half()):
        assert_equal(chain(step_size=one), want)
    assert_equal(chain(X[:1], step_size=torch.tensor([0.25])), want[:1])


def test_what_is_returned():
    last = chain()
    assert isinstance(last, torch.Tensor)
    assert [t.shape for t in chain(thin=3)] == [(6, 3), (1, 6, 3)]
    assert [t.shape for t in chain(thin=5)] == [(6, 3), (0, 6, 3)]
    assert [(t.shape, t.dtype) for t in chain(return_diverged=True)] == [
        ((6, 3), torch.float32),
        ((6,), torch.int64),
    ]
    both = chain(thin=2, return_diverged=True)
    assert_equal(both[0], last)
    assert_equal(both[1][1], last)
    assert both[2].tolist() == [-1] * 6
