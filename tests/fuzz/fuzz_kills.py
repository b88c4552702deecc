"""Kills a process that saves its states, at a random moment; another process goes on from the
file. The result has the bits of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path

import torch
from fuzz_samplers import same_state, sampler_for
from guarded import values

from pyebm import Noise
from pyebm.samplers import Sampler, State

STEPS, KILLS = 24, 10


def save(state: State, file: Path) -> None:
    """Saves as docs/samplers.md says, so that a file is either whole or absent."""
    partial = file.with_suffix(".partial")
    torch.save(state.state_dict(), partial)
    partial.rename(file)


def load(file: Path) -> State:
    return State.from_state_dict(torch.load(file, weights_only=True))


def work(sampler: Sampler, begin: State, file: Path) -> None:
    """Runs to the end from the file, or from the beginning if there is none."""
    state = load(file) if file.exists() else begin
    while state.noise.step < STEPS:
        state = sampler(state, min(1 + state.noise.step % 3, STEPS - state.noise.step))
        save(state, file)


def case(rng: random.Random) -> None:
    shape = (rng.randint(1, 5), 3)
    x0 = values(rng, shape, special=False).clamp(-2, 2)
    sampler, begin = sampler_for(rng, shape, STEPS)(x0), State(x0, Noise(rng.getrandbits(64)))
    killed = 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.pt"
        for _ in range(KILLS):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    work(sampler, begin, file)
                    code = 0
                finally:
                    os._exit(code)
            time.sleep(rng.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if status == 0:
                break
            assert status == signal.SIGKILL, (
                f"the process ended by itself: {os.waitstatus_to_exitcode(status)}"
            )
            killed += 1
        else:
            work(sampler, begin, file)
        same_state(load(file), sampler(begin, STEPS))
