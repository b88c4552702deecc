"""Tensor subclasses give right results or are refused in words; modes see every op."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, normal
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import pyebm
from pyebm import Noise, _ops
from pyebm.samplers import HMC, MALA, VP, AnnealedLangevin, Langevin, PredictorCorrector, UnderdampedLangevin

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(_ops.backends()["cpu"] is not True, reason="the CPU library is not built"),
]

NOISE = Noise(3)
TARGET = pyebm.targets.DoubleWell()
X = normal(6, 2)


def energy(x):
    return 0.5 * x.square().sum(1)


SAMPLERS = {
    "Langevin": Langevin(torch.neg, 0.1),
    "Langevin, a target": Langevin(TARGET, 0.01),
    "AnnealedLangevin": AnnealedLangevin(lambda x, s: -x * s.mean(), [1.0, 0.1], 0.1, 4),
    "PredictorCorrector": PredictorCorrector(lambda x, t: -x * (1 + t.mean()), VP(), 30),
    "MALA": MALA(energy, 0.1),
    "HMC": HMC(TARGET, 0.05, 3),
    "UnderdampedLangevin": UnderdampedLangevin(torch.neg, 0.1),
}
OF_A_STEP = {
    "Langevin": ["langevin_step"],
    "AnnealedLangevin": ["langevin_step"],
    "PredictorCorrector": ["corrector_step", "affine_step"],
    "MALA": ["langevin_step", "metropolis"],
}
CALLS = {
    "perturb": lambda x: pyebm.perturb(x, 0.5, NOISE),
    "dsm_loss": lambda x: pyebm.dsm_loss(x, 0.5, NOISE),
    "denoising_loss": lambda x: pyebm.denoising_loss(x, NOISE, kappa=0.5),
    "langevin_step": lambda x: pyebm.langevin_step(x, x, 0.1, NOISE),
    "langevin_step_": lambda x: pyebm.langevin_step_(x.clone(), x, 0.1, NOISE),
    "affine_step": lambda x: pyebm.affine_step(x, x, 0.9, 0.1, 0.2, NOISE),
    "langevin_chain": lambda x: pyebm.langevin_chain(x, TARGET, 3, 0.01, NOISE),
    "score": lambda x: TARGET.score(x),
}
RUNS = {name: lambda x, sampler=sampler: sampler(x, 3, noise=Noise(1)) for name, sampler in SAMPLERS.items()}


class Dispatched(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        self.seen.append(op)
        return op(*args, **(kwargs or {}))


class Called(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, op, types, args=(), kwargs=None):
        self.seen.append(op)
        return op(*args, **(kwargs or {}))


def ours(mode):
    return [str(op).split(".")[1] for op in mode.seen if str(op).startswith("pyebm.")]


@pytest.mark.parametrize("mode", [Dispatched, Called])
@pytest.mark.parametrize("name", RUNS)
def test_modes_see_every_step(name, mode):
    want = RUNS[name](X)
    with mode() as watching:
        got = RUNS[name](X)
    assert_equal(got, want)
    seen = ours(watching)
    assert seen
    if name in OF_A_STEP:
        assert seen == OF_A_STEP[name] * 3


@pytest.mark.parametrize("mode", [Dispatched, Called])
def test_a_mode_that_begins_within_a_run(mode):
    watching = mode()

    def callback(k, _x, _info):
        if k == 2:
            watching.__enter__()
        if k == 4:
            watching.__exit__(None, None, None)

    got = Langevin(torch.neg, 0.1)(X, 6, noise=NOISE, callback=callback)
    assert_equal(got, Langevin(torch.neg, 0.1)(X, 6, noise=NOISE))
    assert ours(watching) == ["langevin_step"] * 2


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("name", [*CALLS, *RUNS])
def test_make_fx(name, symbolic):
    """The traced graph computes the same as the call for another input, so no step is missing
    from it."""
    call = {**CALLS, **RUNS}[name]
    if symbolic and name in RUNS:
        pytest.skip("a sampler's loop asks for sizes")
    mode = "symbolic" if symbolic else "real"
    traced = make_fx(lambda x: call(x), tracing_mode=mode, _allow_non_fake_inputs=symbolic)(X)
    other = normal(6, 2, seed=1)
    if name in ("MALA", "HMC"):  # they work on energies in float64
        torch.testing.assert_close(traced(other), call(other))
    else:
        assert_equal(traced(other), call(other))


@pytest.mark.parametrize("name", [*CALLS, *RUNS])
def test_flop_counter(name):
    call = {**CALLS, **RUNS}[name]
    with FlopCounterMode(display=False):
        got = call(X)
    assert_equal(got, call(X))


@pytest.mark.parametrize("name", [*CALLS, *RUNS])
def test_fake_tensors(name):
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    call = {**CALLS, **RUNS}[name]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        got = call(mode.from_tensor(X))
    assert isinstance(got, FakeTensor)
    want = call(X)
    assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride())


class Named(torch.Tensor):
    """A subclass whose memory is a plain tensor's, like those of image packages."""


@pytest.mark.parametrize("kind", [Named, torch.nn.Parameter])
@pytest.mark.parametrize("name", [*CALLS, *RUNS])
def test_subclasses_that_are_plain_tensors(name, kind):
    call = {**CALLS, **RUNS}[name]
    with torch.no_grad():
        x = X.clone().as_subclass(Named) if kind is Named else torch.nn.Parameter(X.clone())
        assert_equal(call(x).as_subclass(torch.Tensor), call(X))


def two(x):
    return TwoTensor(x.clone(), x.clone())


HALVES = {
    "score": lambda: pyebm.langevin_step(X, two(X), 0.1, NOISE),
    "g": lambda: pyebm.affine_step(X, two(X), 0.9, 0.1, 0.2, NOISE),
    "sigma": lambda: pyebm.perturb(X, two(torch.ones(6)), NOISE),
    "weight": lambda: pyebm.dsm_loss(X, 0.5, NOISE, weight=two(torch.ones(6))),
    "noise": lambda: pyebm.dsm_loss(X, 0.5, two(X)),
    "x0": lambda: pyebm.denoising_loss(X, NOISE, mu=1.0, x0=two(X)),
    "mask": lambda: pyebm.langevin_step(X, X, 0.1, NOISE, mask=two(X > 0)),
    "step_size": lambda: pyebm.langevin_chain(X, TARGET, 3, two(torch.ones(6)), NOISE),
    "seed": lambda: Noise(two(torch.arange(6))),
    "sample_ids": lambda: Noise(0, sample_ids=two(torch.arange(6))),
}


@pytest.mark.parametrize("name", [*CALLS, *RUNS])
def test_operations_of_their_own(name):
    with pytest.raises(
        TypeError,
        match=r"must be a plain tensor or a DTensor, got TwoTensor, which has operations of its own",
    ):
        {**CALLS, **RUNS}[name](two(X))


@pytest.mark.parametrize("name", HALVES)
def test_operations_of_their_own_in_another_place(name):
    with pytest.raises(TypeError, match=f"{name} must be a plain tensor or a DTensor, got TwoTensor"):
        HALVES[name]()


@pytest.mark.filterwarnings("ignore")  # torch warns about prototypes and deprecations
@pytest.mark.parametrize("name", [*CALLS, *RUNS])
def test_other_kinds(name):
    call = {**CALLS, **RUNS}[name]
    jagged = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    quantised = torch.quantize_per_tensor(X, 0.1, 0, torch.qint8)
    for x in (jagged, quantised, X.to_sparse()):
        with pytest.raises(TypeError, match="must be"):
            call(x)


def test_an_energy_is_torch_s_own():
    got = pyebm.energy_score(energy, two(X))
    assert isinstance(got, TwoTensor)
    assert_equal(got.a, -X)


@pytest.mark.parametrize("name", CALLS)
def test_zeros_without_memory_in_a_call(name):
    if name == "langevin_step_":
        pytest.skip("they can't be written to")
    assert_equal(CALLS[name](torch._efficientzerotensor(X.shape)), CALLS[name](torch.zeros_like(X)))
