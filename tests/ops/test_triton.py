"""The Triton backend as far as a machine without a GPU can test it, and further tests for a machine
with one (marked ``gpu``).

Values: interpreted_*.py, in processes of their own. Compiled kernels: gpuless/.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fresh
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import pyebm

HERE = Path(__file__).parents[1]
triton = pytest.importorskip("triton")
gpu = pytest.mark.gpu
INTERPRETED = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}  # its operations are small


def python(code, **environment):
    return fresh.python("-c", code, env=os.environ | environment, cwd=HERE.parent)


# Tests from the rest of the suite that the interpreter gets through in seconds.
SOME = (
    "triton and (interpreted_triton or test_equals_the_loop and 7x17 and (float32 or bfloat16 and ackley) "
    "or test_every_option and 6x2 and double_well and bfloat16 "
    "or test_sampler_ops and (70x2 or 2x2500 or 5x3x7x3 or 0x3 or 4x0 or 9x37) and (float32 or bfloat16)"
    " or test_dual_averaging and not 9000 or test_target_energy and float32"
    " or test_samples_are_their_own or test_equals_the_reference and uniform and 7x17) or interpreted_runs"
    " or interpreted_networks"
)


REST = pytest.param(
    "interpreted_triton or interpreted_runs or interpreted_networks", "--slow", marks=pytest.mark.slow
)
LARGE = pytest.param("triton and test_dual_averaging and 9000", "--tb=short", marks=pytest.mark.slow)


@pytest.mark.long
@pytest.mark.parametrize(
    ("some", "options"), [(SOME, "--tb=short"), REST, LARGE], ids=("some", "the rest", "large")
)
def test_interpreted(some, options):
    files = [
        HERE / name
        for name in (
            "interpreted_triton.py",
            "interpreted_runs.py",
            "interpreted_networks.py",
            "ops/test_chain.py",
            "ops/test_sampler_ops.py",
            "noise/test_uniforms.py",
        )
    ]
    command = ("-m", "pytest", "-q", options, "-p", "no:cacheprovider", *files, "-k", some)
    result = fresh.python(*command, env=os.environ | INTERPRETED, cwd=HERE.parent)
    assert result.returncode == 0, result.stdout[-10_000:] + result.stderr[-2000:]


DENSE = (
    "triton and (test_the_score_is_within_the_bound and 13 and not 40 or from_data or not_finite"
    " or diverging or test_equals_the_loop and 7x17 and (float32 or bfloat16)) or interpreted_dense"
)
DENSE_REST = pytest.param(
    "triton and (test_the_score_is_within_the_bound and 40 or few_ulps and float32)", marks=pytest.mark.slow
)


@pytest.mark.long
@pytest.mark.parametrize("some", [DENSE, DENSE_REST], ids=("some", "the rest"))
def test_interpreted_dense_targets(some):
    files = [
        HERE / name
        for name in (
            "interpreted_dense.py",
            "targets/test_mixture.py",
            "targets/test_gaussian_full.py",
            "targets/test_dense_chains.py",
        )
    ]
    command = ("-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *files, "-k", some)
    of_nan = ("-W", "ignore::RuntimeWarning")  # numpy's
    result = fresh.python(*command, *of_nan, env=os.environ | INTERPRETED, cwd=HERE.parent)
    assert result.returncode == 0, result.stdout[-10_000:] + result.stderr[-2000:]
    assert " skipped" not in result.stdout


def test_importing_pyebm_imports_no_triton():
    result = python(
        "import sys, pyebm, pyebm.samplers; print([m for m in sys.modules if m.split('.')[0] == 'triton'])"
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_kernels_have_one_name_only():
    result = python("import kernels")
    assert "import pyebm.kernels, not kernels" in result.stderr


def test_without_triton():
    code = "import importlib.util as u, torch, pyebm; u.find_spec = lambda name: None\n"
    result = python(
        code + "print(pyebm.backends()['triton'])\npyebm.Noise(0).randn((2, 2), backend='triton')"
    )
    assert "pip install triton" in result.stdout
    assert "RuntimeError" in result.stderr
    assert "pip install triton" in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
def test_without_a_device():
    with pytest.raises(RuntimeError, match="no CUDA device here; TRITON_INTERPRET=1"):
        pyebm.Noise(0).randn((2, 2), backend="triton")


@pytest.mark.parametrize("version", ["3.5.1", "3.10.0"])
def test_an_untested_triton_is_named(version):
    from pyebm.kernels import _warn_where_untested

    with pytest.warns(RuntimeWarning, match=rf"Triton {version} is untested; tested are 3.6 to 3.9"):
        _warn_where_untested(version)


def test_a_tested_triton_is_not():
    from pyebm.kernels import _warn_where_untested

    for version in ("3.6.0", "3.9.0+git1234"):
        _warn_where_untested(version)  # warnings are errors here


def test_public_calls_trace_on_cuda_fake_tensors():
    """Each call is one registered op in the graph; tracing looks for no kernel and no device."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(8, 5, device="cuda")
        graph = make_fx(
            lambda x: pyebm.langevin_step(pyebm.perturb(x, 0.5, pyebm.Noise(3)), -x, 0.1, pyebm.Noise(4))
        )(x)
    called = [str(node.target) for node in graph.graph.nodes if "pyebm" in str(node.target)]
    assert called == ["pyebm.perturb.default", "pyebm.langevin_step.default"]


def _everything(x, rows):
    noise = pyebm.Noise(3)
    noisy = pyebm.perturb(x, rows, noise)
    state, mean = pyebm.langevin_step(
        noisy, -noisy, 0.1, noise.at(step=1), clamp=(-1.0, 1.0), mask=x > 0, return_mean=True
    )
    state = pyebm.affine_step(state, mean, 0.9, rows, 0.2, noise.at(step=2))
    pyebm.langevin_step_(state, -state, rows, noise.at(step=3), temperature=0.5)
    losses = (
        pyebm.dsm_loss(state, rows, noise),
        pyebm.denoising_loss(state, noise, lam=-1.0, mu=0.5, x0=x, reduction="sample"),
    )
    return state, *losses, noise.randn(x.shape, device=x.device), noise.rand(x.shape, device=x.device)


@pytest.mark.filterwarnings("ignore")  # torch warns while it compiles
def test_public_calls_compile_in_one_graph_for_cuda():
    """Without a device, Dynamo can trace CUDA tensors that hold nothing, and may not break the
    graph."""
    torch._dynamo.reset()
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, rows = torch.empty(8, 5, device="cuda"), torch.ones(8, device="cuda")
        results = torch.compile(_everything, fullgraph=True, backend="eager")(x, rows)
    assert [tuple(r.shape) for r in results] == [(8, 5), (), (8,), (8, 5), (8, 5)]
    assert {r.device.type for r in results} == {"cuda"}


# --- on a device ---

NOISE = pyebm.Noise(3, step=5, stream=2, first_sample=7)


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (1000, 17), (4096, 2), (3, 4099)])
def test_device_bits(shape, dtype):
    x, score = torch.randn(shape, device="cuda").to(dtype), torch.randn(shape, device="cuda").to(dtype)
    sigma = torch.rand(shape[0], device="cuda") + 0.1
    for call in (
        lambda backend: pyebm.perturb(x, sigma, NOISE, backend=backend),
        lambda backend: pyebm.langevin_step(
            x, score, 0.1, NOISE, clamp=(-1.0, 1.0), mask=x > 0, backend=backend
        ),
        lambda backend: pyebm.dsm_loss(score, sigma, NOISE, reduction="none", backend=backend),
        lambda backend: pyebm.langevin_chain(
            x, pyebm.targets.DoubleWell().to("cuda"), 5, 0.01, NOISE, backend=backend
        ),
    ):
        assert torch.equal(call("triton"), call("reference"))


@gpu
def test_no_host_sync():
    x, name = torch.randn(64, 100, device="cuda"), NOISE
    pyebm.langevin_step_(x, -x, 0.1, name)  # copies the name, compiles
    score, target = x.clone().requires_grad_(), pyebm.targets.DoubleWell().to("cuda")
    pyebm.langevin_chain(x, target, 10, 0.01, name)
    torch.cuda.set_sync_debug_mode("error")
    try:
        pyebm.langevin_step_(x, -x, 0.1, name)
        pyebm.dsm_loss(score, torch.ones(64, device="cuda"), name).backward()
        pyebm.langevin_chain(x, target, 10, 0.01, name, thin=5, return_diverged=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@gpu
def test_a_graph_draws_fresh_noise_on_each_replay():
    name = NOISE._named(64, torch.empty(1, device="cuda"))[0].clone()
    out = torch.empty(64, 100, device="cuda")
    advance = torch.tensor([0, 0, 1, 0], device="cuda")
    torch.ops.pyebm.normal_(out, name)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.ops.pyebm.normal_(out, name)
        name += advance
    for step in range(5, 8):
        graph.replay()
        assert torch.equal(out, NOISE.at(step=step).randn((64, 100), device="cuda", backend="reference"))


@gpu
def test_a_large_tensor():
    x = torch.empty(3, 2**30 + 5, dtype=torch.bfloat16, device="cuda")
    pyebm.kernels.OPS["normal_"](x, NOISE._named(3, x)[0])
    tail = pyebm.Noise(3, step=5, stream=2, first_sample=9)
    expected = tail.randn((1, 2**30 + 5), dtype=torch.bfloat16, device="cuda", backend="triton")
    assert torch.equal(x[2], expected[0])


@gpu
def test_compiled_on_a_device():
    x, rows = torch.randn(8, 5, device="cuda"), torch.linspace(0.1, 1, 8, device="cuda")
    for ours, theirs in zip(
        torch.compile(_everything, fullgraph=True)(x, rows), _everything(x, rows), strict=True
    ):
        assert torch.equal(ours, theirs)


@gpu
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer(tool):
    if shutil.which("compute-sanitizer") is None:
        pytest.skip("compute-sanitizer is not on the PATH")
    command = [
        "compute-sanitizer",
        "--tool",
        tool,
        "--error-exitcode",
        "1",
        sys.executable,
        "-m",
        "pytest",
        "-q",
        HERE / "ops/test_triton.py",
    ]
    result = subprocess.run(
        [*command, "-k", "test_device_bits and (17 or 4099)"],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parent,
    )
    assert result.returncode == 0, result.stdout[-5000:]
