"""Calls that must not compile a kernel again, and calls that do: counted on Triton's own launch
path."""

import pyebm.kernels
import pytest
import torch
from compiled import compiling

import pyebm

OPS = pyebm.kernels.OPS


def compilations(calls):
    """How many different kernels a list of calls needs, by the name of the kernel."""
    with compiling("sm_90") as launches:
        for call in calls:
            call()
    kernels = {(launch.name, launch.compiled.hash) for launch in launches}
    return {name: sum(k == name for k, _ in kernels) for name, _ in kernels}


def step(batch, noise, eta=0.1, rows=None, size=48):
    x = torch.empty(batch, size)
    return lambda: OPS["langevin_step"](x, None, torch.empty_like(x), eta, 1.0, noise._name, rows)


def test_nothing_is_compiled_again_for_seed_step_sigma_or_batch():
    calls = [
        step(batch, pyebm.Noise(seed, step=batch), eta)
        for batch, seed, eta in ((1, 0, 1.0), (16, 1, 0.3), (17, 2**40, 16.0), (5, 16, 2))
    ]
    assert compilations(calls) == {"step_kernel": 1}


def test_nor_for_their_values_per_sample():
    calls = [step(batch, pyebm.Noise(batch), rows=torch.ones(batch)) for batch in (1, 2, 16, 33)]
    assert compilations(calls) == {"step_kernel": 1, "step_rows": 1}


def test_nor_for_the_number_of_tokens():
    """The number of tokens changes from batch to batch: one kernel serves tokens that are whole
    cells of a tile, another one all other tokens."""
    calls = [step(4, pyebm.Noise(0), rows=torch.ones(4 * tokens)) for tokens in (2, 3, 4, 6, 12)]
    assert compilations(calls) == {"step_kernel": 1, "step_rows": 1}
    calls += [step(4, pyebm.Noise(0), rows=torch.ones(4 * tokens)) for tokens in (8, 16, 24, 48)]
    assert compilations(calls) == {"step_kernel": 2, "step_rows": 1}


@pytest.mark.parametrize("reduction", [1, 4])
def test_nor_for_a_loss(reduction):
    def loss(batch, sigma):
        pred = torch.empty(batch, 4800)
        out = torch.empty(batch) if reduction == 1 else torch.empty(())
        return lambda: OPS["denoising_loss"](
            out,
            torch.empty_like(pred),
            pred,
            sigma,
            1.0,
            0.0,
            1.0,
            0.5,
            True,
            reduction,
            pyebm.Noise(batch)._name,
        )

    sums = "add_samples" if reduction == 1 else "add_tiles"
    assert compilations([loss(batch, batch / 2) for batch in (1, 2, 16, 17)]) == {"loss_kernel": 1, sums: 1}


def test_another_dtype_or_alignment_is_another_kernel():
    """The count can count: a misaligned tensor has other loads."""
    memory = torch.empty(1 + 4 * 48)
    aligned, shifted = memory[:-1].view(4, 48), memory[1:].view(4, 48)
    name = pyebm.Noise(0)._name
    assert compilations([lambda x=x: OPS["normal_"](x, name) for x in (aligned, shifted)]) == {
        "noise_kernel": 2
    }
