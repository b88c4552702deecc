"""Runs some of every fuzzer's cases, the same ones each time; `make fuzz` makes others, as many
as one likes (fuzz.py)."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
from pathlib import Path

import fresh
import fuzz
import pytest
import torch
from guarded import Arena

import pyebm

FOLDER = Path(__file__).parent


@pytest.mark.parametrize(
    "fuzzers", [["calls"], [name for name in fuzz.FUZZERS if name != "calls"]], ids=["calls", "others"]
)
def test_no_case_fails(fuzzers):
    """The fuzzers run in a new process, which has no threads when it forks."""
    done = fresh.python(FOLDER / "fuzz.py", *fuzzers)
    assert done.returncode == 0, done.stdout + done.stderr


def in_a_child(work) -> int:
    """Runs ``work`` in a forked child; returns the signal that ended the child, or 0."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()  # pytest's handler would print the crash
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return status & 127


class Last:
    """Dice that put every tensor at the end of its memory."""

    @staticmethod
    def choice(places):
        return places[-1]


@pytest.mark.usefixtures("one_thread")
def test_a_guard_page_is_one():
    t = Arena(Last()).place("t", torch.ones(3), [1])
    one_more = torch.frombuffer((ctypes.c_uint8 * 16).from_address(t.data_ptr()), dtype=torch.float32)
    assert in_a_child(lambda: t.sum()) == 0
    assert in_a_child(lambda: one_more.sum()) == signal.SIGSEGV


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_expanded_coefficient_is_one_value(dtype):
    """The kernel once read it as if memory held one value for each sample."""
    sigma = Arena(Last()).place("sigma", torch.full((8,), 0.5, dtype=dtype), [0])
    assert in_a_child(lambda: pyebm.perturb(torch.zeros(8, 3), sigma, pyebm.Noise(0))) == 0


def test_a_write_beside_the_tensor_is_seen():
    arena = Arena(Last())
    t = arena.place("t", torch.ones(3), [2], written=True)
    t += 1
    arena.check(t)
    with pytest.raises(AssertionError, match="bytes of t were written to"):
        arena.check()
    t.as_strided((1,), (1,), t.storage_offset() + 1).fill_(0)
    with pytest.raises(AssertionError, match="bytes around t were written to"):
        arena.check(t)
