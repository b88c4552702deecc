"""Fixtures: the kernel backends (at every SIMD level), threads, dtypes, shapes, and memory that is
full of NaN until written."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import DTYPES, SHAPES, name_of
from choice import left_out

import pyebm
from pyebm import _ops

sys.path.insert(0, str(Path(__file__).parent / "gpuless"))
import emulated

emulated.register()


def _kernel_backends() -> Iterator[Any]:
    available = pyebm.backends()
    if available["cpu"] is not True:
        raise pytest.UsageError(str(available["cpu"]))  # without the kernels, tests prove nothing
    for level in ("baseline", "avx2", "avx512", "neon"):
        try:
            before = _ops.simd()
            _ops.simd(level)
            _ops.simd(before)
        except ValueError:
            continue
        yield "cpu", level
    for name, state in available.items():
        if state is True and name not in ("cpu", "reference"):
            yield name, None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pyebm")
    group.addoption("--slow", action="store_true", help="the tests and cases that a plain run leaves out")
    group.addoption("--turn", default="0/1", metavar="K/N", help="with --slow: the K-th of N parts of them")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """A million objects live from here to the end: the garbage collector need not walk them again
    and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(trylast=True)  # among those that -k and -m leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips tests of a device where there is none, and leaves out slow tests and the cases beyond
    choice.py's, or with --slow all others. Long tests begin first: the others run beside them."""
    if not torch.cuda.is_available():
        no_device = pytest.mark.skip(reason="needs a CUDA device, and torch finds none here")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(no_device)
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    if config.getoption("markexpr"):
        return
    rest = left_out(items) | {item for item in items if item.get_closest_marker("slow")}
    kept = [item for item in items if item not in rest]
    if config.getoption("slow"):
        turn, parts = map(int, config.getoption("turn").split("/"))
        kept = [item for item in items if item in rest][turn % parts :: parts]
    run = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in run])
    items[:] = kept


def _marked(backend: tuple[str, str | None]) -> object:
    """Marks a device's backends, so that ``-m gpu`` runs every test of the suite on them too."""
    on_a_device = backend[0] in ("cuda", "triton") and not _ops._interpreted()
    return pytest.param(
        backend, marks=pytest.mark.gpu if on_a_device else [], id="-".join(filter(None, backend))
    )


@pytest.fixture(autouse=True)
def modes() -> Iterator[None]:
    """Every test must leave autograd's modes as it found them, so that a lost gradient is blamed
    on the test that lost it."""
    yield
    left = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    torch.set_grad_enabled(True)
    assert left == (True, False), f"the test left grad mode {left[0]} and inference mode {left[1]}"


@pytest.fixture(params=[_marked(backend) for backend in _kernel_backends()])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a kernel backend that runs here; the CPU's comes once for each SIMD level of
    this machine."""
    name, level = request.param
    if level is None:
        yield name
        return
    before = _ops.simd()
    _ops.simd(level)
    yield name
    _ops.simd(before)


@pytest.fixture(params=[level for _, level in _kernel_backends() if level])
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every SIMD level of this machine in turn."""
    before = _ops.simd()
    _ops.simd(request.param)
    yield request.param
    _ops.simd(before)


@pytest.fixture
def device(backend: str) -> torch.device:
    return torch.device("cuda" if backend in ("cuda", "triton") and not _ops._interpreted() else "cpu")


@pytest.fixture(params=DTYPES, ids=name_of)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(params=SHAPES, ids=name_of)
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return request.param


@pytest.fixture(params=(1, 2), ids=("1-thread", "2-threads"))
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For many small tests: on a busy machine, waiting for a second thread takes longer than
    their work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fills the memory of torch.empty with NaN, so that an element which a kernel forgot to
    write shows."""
    before = torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    assert torch.empty(5).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)
