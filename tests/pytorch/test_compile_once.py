"""torch.compile(fullgraph=True) compiles at most twice for any sequence of numbers: once for the
first, once for all others."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import pyebm
from pyebm import Noise, NoiseCounter, samplers

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns while it compiles
X = torch.linspace(-1, 1, 24).reshape(8, 3)
NOISE = Noise(3)
WELL = pyebm.targets.DoubleWell()
NUMBERS = [0.3 / (k + 1) for k in range(5)]
STEPS = range(6)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


def _compiles(function, numbers, backend="aot_eager"):
    """How often it was compiled. The first call counts once, though a module's buffers make
    torch trace twice there."""
    first = None
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(function, fullgraph=True, backend=counter)
    for number in numbers:
        for ours, expected in zip(
            _flat(compiled(X.clone(), number)), _flat(function(X.clone(), number)), strict=True
        ):
            assert torch.equal(ours, expected)
        first = first or counter.frame_count
    return 1 + counter.frame_count - first


def _flat(result):
    return result if isinstance(result, tuple) else (result,)


OF_A_NUMBER = {
    "perturb": lambda x, s: (pyebm.perturb(x, s, NOISE), pyebm.perturb(x, 1.0 - s, NOISE, alpha=-s)),
    "dsm_loss": lambda x, s: (
        pyebm.dsm_loss(x, s, NOISE, weight=1 / s**2),
        pyebm.dsm_loss(x, s, NOISE, weight="sigma2"),
    ),
    "denoising_loss": lambda x, s: pyebm.denoising_loss(
        x, NOISE, x0=x, kappa=s, lam=-s, mu=s, weight=s, reduction="none"
    ),
    "langevin_step": lambda x, s: pyebm.langevin_step(x, -x, s, NOISE, temperature=2 * s, return_mean=True),
    "langevin_step_": lambda x, s: pyebm.langevin_step_(x, x.cos(), s, NOISE),
    "affine_step": lambda x, s: pyebm.affine_step(x, -x, 1 - s, s, s * s, NOISE),
    "langevin_chain": lambda x, s: pyebm.langevin_chain(
        x, WELL, 3, s, NOISE, temperature=s, return_diverged=True
    ),
    "score": lambda x, s: WELL.score(s * x),
}
OF_A_STEP = {
    "at": lambda x, k: pyebm.perturb(x, 0.5, NOISE.at(step=k)),
    "stream": lambda x, k: pyebm.dsm_loss(x, 0.5, NOISE.at(stream=k)),
    "shard": lambda x, k: pyebm.langevin_step(x, -x, 0.1, NOISE.shard(first_sample=k)),
    "Noise": lambda x, k: pyebm.perturb(x, 0.5, Noise(k, step=k, first_sample=k, stream=k)),
    "seeds and ids": lambda x, k: pyebm.perturb(
        x, 0.5, Noise(torch.arange(8) - k, sample_ids=torch.arange(8) * k)
    ),
    "randn": lambda x, k: (NOISE.at(step=k).randn((4, 3)), NOISE.at(step=k).rand(x.shape)),
    "chain": lambda x, k: pyebm.langevin_chain(x, WELL, 3, 0.1, NOISE.at(step=k)),
}


@pytest.mark.parametrize("function", OF_A_NUMBER.values(), ids=OF_A_NUMBER)
def test_changing_numbers(function):
    assert _compiles(function, NUMBERS) <= 2


@pytest.mark.parametrize("function", OF_A_STEP.values(), ids=OF_A_STEP)
def test_changing_steps(function):
    assert _compiles(function, STEPS) <= 2


@pytest.mark.slow  # g++ compiles each; test_compile.py has some that always run
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_inductor_gives_the_same_bits(dtype):
    def function(x, s):
        noise, x = NOISE.at(step=int(8 * s)), x.to(dtype)
        x = pyebm.langevin_step(pyebm.perturb(x, s, noise, alpha=s), -x, s, noise, temperature=s)
        return x, pyebm.dsm_loss(x, s, noise), pyebm.affine_step(x, x, s, s, s, noise)

    assert _compiles(lambda x, s: function(x, s), NUMBERS[:3], "inductor") <= 3  # int(8 s) is 2, 1 and 0


def test_gradients():
    def function(x, s):
        step = pyebm.langevin_step(x, -x, s, NOISE, temperature=s)
        return step.sum() + pyebm.perturb(x, s, NOISE, alpha=s).sum() + pyebm.dsm_loss(x, s, NOISE, weight=s)

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, backend=counter)
    x = X.clone().requires_grad_()
    for number in NUMBERS:
        (ours,), (expected,) = (torch.autograd.grad(f(x, number), x) for f in (compiled, function))
        torch.testing.assert_close(
            ours, expected, rtol=1e-6, atol=1e-6
        )  # the compiler chooses the order in which it adds three gradients
    assert counter.frame_count <= 2


def test_seeds_beyond_an_int64():
    seeds = [2**63 - 1, 2**63, 2**63 + 5, 2**64 - 1, -(2**63), 5]
    assert _compiles(lambda x, seed: pyebm.perturb(x, 0.5, Noise(seed)), seeds) <= 3  # the sign is a branch


def test_numbers_out_of_range_are_refused():
    compiled = torch.compile(
        lambda x, s: pyebm.langevin_step(x, -x, s, NOISE), fullgraph=True, backend="aot_eager"
    )
    for number in NUMBERS:
        compiled(X, number)
    for number in (-0.5, float("nan"), float("inf")):
        with pytest.raises(Exception, match="step_size must be > 0 and finite"):
            compiled(X, number)


class _Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.step, self.net = 0, torch.nn.Linear(3, 3)

    def forward(self, x):
        self.step += 1
        return self.net(pyebm.perturb(x, 0.5, NOISE.at(step=self.step)))


class _Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.noise, self.net = NoiseCounter(NOISE), torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.net(pyebm.perturb(x, 0.5, self.noise.advance_()))


@pytest.mark.parametrize(("module", "most"), [(_Counting, 2), (_Counter, 1)])
def test_a_module_that_counts(module, most):
    """torch takes a module's int for a constant, unless its config says otherwise; a
    NoiseCounter needs no config."""
    module, counter = module(), CompileCounterWithBackend("aot_eager")
    with torch._dynamo.config.patch(allow_unspec_int_on_nn_module=module.__class__ is _Counting):
        compiled = torch.compile(module, fullgraph=True, backend=counter)
        for k in range(1, 6):
            assert torch.equal(compiled(X), module.net(pyebm.perturb(X, 0.5, NOISE.at(step=k))))
    assert counter.frame_count <= most


@pytest.mark.parametrize("score", [torch.cos, WELL], ids=["function", "target"])
def test_a_sampler_s_noise(score):
    sampler = samplers.Langevin(score, 0.1)
    assert _compiles(lambda x, k: sampler(x, 3, noise=NOISE.at(step=k)), STEPS) <= 2


def test_a_seed_drawn_in_compiled_code():
    def function(x):
        noise = Noise()
        return pyebm.perturb(x, 0.5, noise), noise.at(step=0).randn(x.shape), noise

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.manual_seed(5)
    x, z, noise = compiled(X)
    again = compiled(X)[0]
    assert torch.equal(x, X + 0.5 * z)
    assert torch.equal(noise.randn(X.shape), z)
    assert noise == Noise(noise.seed)
    assert not torch.equal(x, again)
    torch.manual_seed(5)
    assert torch.equal(function(X)[1], z)
