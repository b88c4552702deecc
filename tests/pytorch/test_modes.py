"""Autograd's modes survive a signal at any instruction of a call that changes them."""

from __future__ import annotations

import ast
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from cases import normal

import pyebm
from pyebm import Noise
from pyebm._modes import in_mode
from pyebm.samplers import MALA, Langevin

TARGET = pyebm.targets.DoubleWell()
CALLS = {
    "langevin": lambda x: Langevin(TARGET, 0.01)(x, 1, noise=0),
    "mala": lambda x: MALA(lambda x: x.square().sum(1), 0.01)(x, 1, noise=0),
    "energy_score": lambda x: pyebm.energy_score(lambda x: x.square().sum(1), x),
    "langevin_chain": lambda x: pyebm.langevin_chain(x, TARGET, 1, 0.01, Noise(0), differentiable=False),
}


def test_no_other_code_changes_the_mode():
    """torch's managers may be left off by a signal; the demo is a program that ends with it."""
    package = Path(pyebm.__file__).parent
    for path in package.rglob("*.py"):
        if path.name == "_modes.py" or "demo" in path.relative_to(package).parts:
            continue
        names = {"no_grad", "enable_grad", "set_grad_enabled", "inference_mode"}
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Attribute) and called.attr in names), path


class Stop(Exception):
    pass


@pytest.fixture
def alarm():
    def handler(*_):
        raise Stop

    before = signal.signal(signal.SIGALRM, handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize(("grad", "inference"), [(True, False), (False, False), (False, True)])
def test_a_signal_leaves_the_caller_s_modes(grad, inference):
    """The calls are as small as possible, so that many of 2,000 signals come while a mode
    changes."""

    def change():
        end = time.perf_counter() + 5
        while time.perf_counter() < end:
            in_mode(lambda: None, grad=not grad, inference=not inference)

    def interrupt():
        for k in range(2000):
            with pytest.raises(Stop):  # noqa: PT012 (the signal may come before the first change)
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (20 + k % 50))
                change()
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (grad, inference)

    in_mode(interrupt, grad=grad, inference=inference)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("inference", [False, True])
def test_every_change_of_mode_is_one(name, inference, monkeypatch):
    """The calls that people interrupt do not use torch's own managers, which a signal can break."""
    x = normal(6, 5)
    CALLS[name](x)

    def refuse(*_):
        raise AssertionError("a manager of torch's changes the mode")

    for manager in (torch.no_grad, torch.enable_grad, torch.set_grad_enabled):
        monkeypatch.setattr(manager, "__enter__", refuse)
    if inference:
        monkeypatch.setattr(torch.inference_mode, "__enter__", refuse)
    in_mode(partial(CALLS[name], x), grad=False, inference=inference)
