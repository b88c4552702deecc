"""A noise's name does not depend on the default device or dtype: a Noise built under any of them
names the same numbers."""

import ast
import contextlib
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

import pyebm
from pyebm import Noise, NoiseCounter, losses, samplers

X = torch.linspace(-1, 1, 12).reshape(4, 3)


@contextlib.contextmanager
def _default_device(device):
    before = torch.get_default_device()
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None if before == torch.device("cpu") else before)


@contextlib.contextmanager
def _default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS = {
    "meta": lambda: torch.device("meta"),
    "default meta": lambda: _default_device("meta"),
    "float64": lambda: _default_dtype(torch.float64),
    "bfloat16": lambda: _default_dtype(torch.bfloat16),
    "deterministic": _deterministic,
}
setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
NOISES = {
    "plain": lambda: Noise(3, first_sample=2, step=5, stream=1),
    "at": lambda: Noise(3).at(step=5, stream=1).shard(first_sample=2),
    "ids": lambda: Noise(3, sample_ids=[4, 0, 2, 9]),
    "seeds": lambda: Noise(torch.tensor([4, 0, 2, 9], device="cpu"), step=3),
    "state": lambda: Noise.from_state_dict(Noise(3, step=7).state_dict()),
    "counter": lambda: NoiseCounter(Noise(3)).advance_(4),
}


@setting
@pytest.mark.parametrize("make", NOISES.values(), ids=NOISES)
def test_a_name_is_the_same(setting, make):
    with setting():
        noise = make()
    assert torch.equal(pyebm.perturb(X, 0.5, noise), pyebm.perturb(X, 0.5, make()))


def _calls():
    noise, x, target = Noise(3, step=1), X.clone(), WELL
    for thin in (None, 2):
        yield pyebm.langevin_chain(x, target, 4, 0.1, noise, thin=thin, return_diverged=True)
    yield pyebm.langevin_chain(
        x.requires_grad_(), target, 4, [0.1, 0.2, 0.3, 0.4], noise, return_diverged=True
    )
    x = x.detach()
    yield (pyebm.dsm_loss(x, 0.5, noise), pyebm.denoising_loss(x, noise, reduction="none"))
    yield (
        pyebm.langevin_step(x, -x, 0.1, noise, clamp=(-1.0, 1.0)),
        pyebm.affine_step(x, -x, 1.0, 0.1, 0.2, noise),
    )
    yield (noise.randn((2, 5)), noise.rand((2, 5)), target.score(x))
    yield (
        losses.score_matching(NET, x),
        losses.score_matching(torch.sin, x, method="hutchinson", noise=noise),
        losses.sliced_score_matching(NET, x, noise),
        losses.contrastive_divergence(NET, x, -x, l2=0.1),
        losses.denoising_score_matching(NET, x, [0.5, 1.0], noise),
        losses.ReplayBuffer(4, (3,)).draw(4, Noise(3)).x,
    )
    for sampler in SAMPLERS:
        run = sampler(x, 4, noise=noise, thin=2)
        yield (run.states, *run.info.values())


WELL = pyebm.targets.DoubleWell()
torch.manual_seed(0)
NET = pyebm.targets.MLPEnergy(
    torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1))
)
SAMPLERS = (
    samplers.Langevin(torch.neg, 0.1),
    samplers.Langevin(WELL, 0.1, temperature=0.5),
    samplers.UnderdampedLangevin(torch.neg, 0.1),
    samplers.MALA(WELL, 0.1, warmup=3),
    samplers.HMC(WELL, 0.1, 3, warmup=3),
    samplers.HMC(lambda x: x.square().sum(1), 0.1, 3),
    samplers.HMC(NET, 0.1, 3, jitter=0.1),
    samplers.MALA(NET, 0.1, warmup=20, adapt_mass=True),
    samplers.UnderdampedLangevin(NET, 0.1),
)


@setting
def test_calls_are_the_same(setting):
    expected = list(_calls())
    with setting():
        ours = list(_calls())
    for a, b in zip(ours, expected, strict=True):
        for one, other in zip(a, b, strict=True):
            assert torch.equal(one, other)


@setting
def test_a_fresh_seed_is_the_cpu_generator_s(setting):
    torch.manual_seed(5)
    expected = Noise()
    torch.manual_seed(5)
    with setting():
        assert Noise() == expected


def test_a_module_built_on_meta():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.noise = Noise(0)
            self.net = torch.nn.Linear(3, 3)

    with torch.device("meta"):
        model = Model()
    model = model.to_empty(device="cpu")
    assert torch.equal(pyebm.perturb(X, 0.5, model.noise), pyebm.perturb(X, 0.5, Noise(0)))


def test_rows_without_numbers_are_refused():
    with pytest.raises(ValueError, match="sample_ids must hold numbers, got a tensor on the meta device"):
        Noise(0, sample_ids=torch.arange(2, device="meta"))
    with pytest.raises(ValueError, match="seed must hold numbers, got a tensor on the meta device"):
        Noise(torch.arange(2, device="meta"))


def test_a_fake_call_leaves_the_noise_real():
    noise = Noise(3, sample_ids=[3, 2, 1, 0])
    with FakeTensorMode():
        pyebm.perturb(torch.empty(4, 3), 0.5, noise)
    pyebm.perturb(X.to("meta"), 0.5, noise)
    assert torch.equal(pyebm.perturb(X, 0.5, noise), pyebm.perturb(X, 0.5, Noise(3, sample_ids=[3, 2, 1, 0])))


_FACTORIES = {"arange", "as_tensor", "asarray", "empty", "empty_strided", "eye", "full", "linspace"}
_FACTORIES |= {"logspace", "ones", "rand", "randint", "randn", "randperm", "scalar_tensor", "tensor", "zeros"}


def test_the_library_makes_no_tensor_on_the_default_device():
    """A tensor that names no device holds no numbers under torch.device("meta"). The demo is a
    program, whose default device is its user's."""
    package = Path(pyebm.__file__).parent
    nameless, seen = [], 0
    for path in sorted(package.rglob("*.py")):
        if "demo" in path.relative_to(package).parts:
            continue
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if ast.unparse(call.func.value) != "torch" or call.func.attr not in _FACTORIES:
                continue
            seen += 1
            if not {keyword.arg for keyword in call.keywords} & {"device", None}:
                nameless.append(f"{path.name}:{call.lineno}: {ast.unparse(call)}")
    assert seen > 20
    assert not nameless
