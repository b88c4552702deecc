"""torch.compile(fullgraph=True) and opcheck; a changed seed or step must not compile again."""

import pytest
import torch
from choice import thinned
from torch._dynamo.testing import CompileCounterWithBackend
from torch.library import opcheck

import pyebm

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns while it compiles
OPS = torch.ops.pyebm
NAME = pyebm.Noise(3, step=2)._name
X = torch.linspace(-1, 1, 40).reshape(8, 5)
ROWS = torch.linspace(0.5, 1.5, 8, dtype=torch.float64)
LOSS = (0.5, 1.0, 0.0, 1.0, 0.5, True, pyebm._schemas.REDUCTIONS["batchmean"], NAME)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("op", "args", "kwargs"),
    [
        (OPS.normal_, (X.clone(), NAME), {}),
        (OPS.uniform_, (X.clone(), NAME), {}),
        (OPS.perturb, (torch.empty_like(X), X, 1.0, 0.5, NAME), {"sigma_rows": ROWS}),
        (
            OPS.langevin_step,
            (torch.empty_like(X), X, -X, 0.1, 1.0, NAME),
            {"mean": torch.empty_like(X), "low": -1.0},
        ),
        (OPS.langevin_step, (X.clone(), None, -X, 0.1, 1.0, NAME), {}),
        (OPS.affine_step, (torch.empty_like(X), X, -X, 0.9, 0.1, 0.2, NAME), {"mask": X > 0}),
        (OPS.target_score, (torch.empty_like(X), X, 1, torch.ones(2)), {}),
        (OPS.target_energy, (torch.empty(8), torch.empty_like(X), X, 1, torch.ones(2), 0.0), {}),
        (OPS.leapfrog, (X.clone(), torch.ones_like(X), 0.1, -X), {}),
        (OPS.langevin_chain, (X.clone(), 1, torch.ones(2), 3, 0.1, 1.0, NAME), {}),
        (
            OPS.langevin_chain,
            (X.clone(), 5, torch.ones(3), 3, 0.1, 1.0, NAME),
            {
                "temperature_rows": ROWS,
                "states": X.new_empty(1, 8, 5),
                "thin": 2,
                "diverged": torch.zeros(8).long(),
                "low": -1.0,
            },
        ),
        (OPS.denoising_loss, (torch.empty(()), torch.empty_like(X), X, *LOSS), {}),
        (OPS.denoising_grad, (torch.empty_like(X), torch.ones(()), X, *LOSS), {}),
        (OPS.scale_, (X.clone(), torch.ones(8)), {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_opcheck(op, args, kwargs):
    opcheck(op.default, args, kwargs)


def _training_loss(x, sigma, noise, net):
    return pyebm.dsm_loss(net(pyebm.perturb(x, sigma, noise)), sigma, noise)


def test_training_step_compiles_once_for_all_noise():
    net = torch.nn.Linear(5, 5)
    compiles = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(_training_loss, fullgraph=True, backend=compiles)
    for k in range(4):
        noise = pyebm.Noise(17 * k, step=k, first_sample=2 * k)
        sigma = ROWS + k
        loss, expected = compiled(X, sigma, noise, net), _training_loss(X, sigma, noise, net)
        assert torch.equal(loss, expected)
        for ours, theirs in zip(
            torch.autograd.grad(loss, net.parameters()),
            torch.autograd.grad(expected, net.parameters()),
            strict=True,
        ):
            assert torch.equal(ours, theirs)
    assert compiles.frame_count == 1


def _step(x, noise):
    pyebm.langevin_step_(x, -x, 0.1, noise)
    return pyebm.langevin_step(x, -x, 0.1, noise, clamp=(-1.0, 1.0), return_mean=True)


def _affine(x, noise):
    return pyebm.affine_step(x, x.sin(), 0.9, 0.1, ROWS, noise, mask=x > 0)


def _named_inside(x, _):
    return x + pyebm.Noise(3).at(step=2).shard(first_sample=4).randn(x.shape)


def _eps_loss(x, noise):
    return pyebm.denoising_loss(x, noise, x0=x, mu=0.3, reduction="none")


WELL = pyebm.targets.DoubleWell()


def _chain(x, noise):
    return pyebm.langevin_chain(
        x, WELL, 5, 0.01, noise, temperature=[1.0, 0.5, 0.2, 0.1, 0.0], thin=2, return_diverged=True
    )


def _score(x, noise):
    return pyebm.targets.Rosenbrock(0.5).score(x) + pyebm.langevin_chain(
        x, pyebm.targets.Funnel(), 2, 0.01, noise
    )


OTHERS = (_step, _named_inside, _eps_loss, _score)  # Inductor has g++ compile each, for seconds


@pytest.mark.parametrize(
    "function", [_affine, _chain, *(pytest.param(other, marks=pytest.mark.slow) for other in OTHERS)]
)
def test_inductor_gives_the_same_bits(function):
    noise = pyebm.Noise(5)
    with torch.no_grad():
        ours = torch.compile(function, fullgraph=True)(X.clone(), noise)
        expected = function(X.clone(), noise)
    for a, b in zip(*((r if isinstance(r, tuple) else (r,)) for r in (ours, expected)), strict=True):
        assert torch.equal(a, b)


def test_chains_compile_once_for_all_noise():
    compiles = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(_chain, fullgraph=True, backend=compiles)
    compiled(X, pyebm.Noise(1))
    first = compiles.frame_count  # torch traces a function twice if it reads a module's buffers
    for k in range(4):
        noise = pyebm.Noise(17 * k, step=k, first_sample=2 * k)
        for ours, theirs in zip(compiled(X + k, noise), _chain(X + k, noise), strict=True):
            assert torch.equal(ours, theirs)
    assert compiles.frame_count == first


def _all_that_differentiates(x, noise):
    step = pyebm.langevin_step(x, -x, 0.1, noise)
    loss = pyebm.denoising_loss(x, noise, reduction="none")
    return (
        step.sum()
        + pyebm.perturb(x, 0.3, noise, alpha=0.2).sum()
        + loss.sum()
        + pyebm.dsm_loss(x, 0.3, noise)
    )


@pytest.mark.parametrize("dtype", thinned([(torch.float32,), (torch.float16,), (torch.float64,)], 3))
def test_compiled_gradients(dtype):
    noise = pyebm.Noise(5)
    x = X.to(dtype).requires_grad_()
    (ours,) = torch.autograd.grad(torch.compile(_all_that_differentiates, fullgraph=True)(x, noise), x)
    (expected,) = torch.autograd.grad(_all_that_differentiates(x, noise), x)
    # Each of the four gradients is exact; the compiler chooses the order in which it adds them.
    torch.testing.assert_close(
        ours,
        expected,
        rtol=4 * torch.finfo(dtype).eps,
        atol=4 * torch.finfo(dtype).eps * expected.abs().max().item(),
    )
