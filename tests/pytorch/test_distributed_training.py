"""Training and chains on three gloo ranks (test_distributed has two) compute what one process
computes with the whole batch."""

from __future__ import annotations

import os
import warnings

import many_processes
import pytest
import torch
import torch.distributed as dist
from cases import assert_equal, normal
from torch import nn
from torch.utils.data import DistributedSampler

import pyebm
from pyebm import Noise
from pyebm.distributed import gather_chains, noise_for
from pyebm.samplers import MALA

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo here"
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 2))


def dsm(net, x, noise):
    noisy = pyebm.perturb(x, 0.5, noise)
    return pyebm.dsm_loss(net(noisy), 0.5, noise)


def denoising(net, x, noise):
    noisy = pyebm.perturb(x, 0.5, noise, alpha=0.8)
    return pyebm.denoising_loss(net(noisy), noise, x0=x, mu=0.5)


def trained(loss, x, noise, model):
    """Returns (the loss, the gradients) of the whole batch."""
    value = loss(model, x, noise)
    value.backward()
    return value.detach(), [parameter.grad.clone() for parameter in model.parameters()]


def ddp():
    """A rank needs to know only its DistributedSampler's indices."""
    data = normal(12, 2)
    for loss in (dsm, denoising):
        for step in range(2):
            sampler = DistributedSampler(range(12), seed=step)
            noise = Noise(1, step=step)
            indices = list(sampler)
            value, gradients = trained(
                loss, data[indices], noise_for(indices, noise), nn.parallel.DistributedDataParallel(network())
            )
            dist.all_reduce(value)
            # One process has the samples in another order.
            whole, wanted = trained(
                loss, data.flip(0), noise_for(range(11, -1, -1), noise, check=False), network()
            )
            torch.testing.assert_close(value / dist.get_world_size(), whole)
            for got, want in zip(gradients, wanted, strict=True):
                torch.testing.assert_close(got, want)


def fsdp():
    """FSDP2 shards the parameters, unevenly here; the ranks' samples follow from indices as
    before."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import init_device_mesh

    data, noise, model = normal(12, 2), Noise(1), network()
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    indices = list(DistributedSampler(range(12)))
    denoising(model, data[indices], noise_for(indices, noise)).backward()
    _, wanted = trained(denoising, data, noise, network())
    for parameter, want in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad.full_tensor(), want)


def bits_of_samples():
    """A sample's loss, and the gradient of its score, have the bits that they have in one
    process."""
    indices = list(DistributedSampler(range(12)))
    score, whole = normal(12, 6)[indices].requires_grad_(), normal(12, 6).requires_grad_()
    got = pyebm.dsm_loss(score, 0.5, noise_for(indices, 7), reduction="sample")
    want = pyebm.dsm_loss(whole, 0.5, Noise(7), reduction="sample")
    assert_equal(got.detach(), want.detach()[indices])
    got.sum().backward()
    want.sum().backward()
    assert_equal(score.grad, whole.grad[indices])


def drawn_seed():
    """Without a noise, all ranks draw the same seed, and each call another."""
    torch.manual_seed(dist.get_rank())
    seeds = [noise_for([dist.get_rank()]).seed for _ in range(2)]
    every = [None] * dist.get_world_size()
    dist.all_gather_object(every, seeds)
    assert every == [seeds] * dist.get_world_size()
    assert seeds[0] != seeds[1]


def shared():
    """A DistributedSampler fills the last shares with the first samples again."""
    indices = list(DistributedSampler(range(12 + dist.get_world_size() - 1), shuffle=False))
    with pytest.warns(
        RuntimeWarning, match="noise_for: 1 of the batch's samples have their index more than once.*: 0"
    ):
        noise_for(indices, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noise_for(indices, 0, check=False)
        noise_for(list(DistributedSampler(range(13), drop_last=True)), 0)


def chains():
    """R-hat and ESS over all ranks' chains equal those of one process, also if the ranks' shares
    differ."""
    x, rank, world = normal(7, 2), dist.get_rank(), dist.get_world_size()
    sampler = MALA(pyebm.targets.Gaussian(), 0.5)
    cuts = [0, *range(3, 3 + world - 1), 7]
    mine = sampler(x[cuts[rank] : cuts[rank + 1]], 20, noise=Noise(0, first_sample=cuts[rank]), thin=1)
    whole = sampler(x, 20, noise=Noise(0), thin=1)
    every = gather_chains(mine.states)
    assert_equal(every, whole.states)
    assert_equal(gather_chains(mine.info["energy"], dim=-1), whole.info["energy"])
    if pytest.importorskip("arviz_stats"):
        assert_equal(pyebm.diagnostics.rhat(every), whole.rhat())
        assert_equal(pyebm.diagnostics.ess(every), whole.ess())


CHECKS = {check.__name__: check for check in (ddp, fsdp, bits_of_samples, drawn_seed, shared, chains)}


def work():
    import traceback

    dist.init_process_group("gloo")
    raised = {}
    for name, check in CHECKS.items():
        try:
            check()
        except BaseException:  # noqa: PERF203
            raised[name] = f"rank {os.environ['RANK']}: {traceback.format_exc()}"
    dist.barrier()
    dist.destroy_process_group()
    return raised


@pytest.fixture(scope="module", params=[pytest.param(2, marks=pytest.mark.slow), 3])
def raised(request):
    return many_processes.run(request.param, work)


@pytest.mark.parametrize("name", CHECKS)
def test_many_processes(name, raised):
    assert all(isinstance(one, dict) for one in raised), raised
    assert not any(name in one for one in raised), "\n".join(one.get(name, "") for one in raised)


def test_one_process():
    assert noise_for([3, 1], Noise(2, step=5, stream=6)) == Noise(2, sample_ids=[3, 1], step=5, stream=6)
    assert noise_for(torch.tensor([3, 1]), 2) == Noise(2, sample_ids=[3, 1])
    assert noise_for([]).sample_ids.shape == (0,)
    with pytest.warns(RuntimeWarning, match="1 of the batch's samples have their index more than once.*: 4"):
        noise_for([4, 2, 4], 0)
    states = normal(3, 4, 2)
    assert gather_chains(states) is states


def test_processes_that_do_not_know_each_other(monkeypatch):
    """torchrun's, before init_process_group: each would take itself for all."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    calls = [lambda: noise_for([0], 0), lambda: noise_for([0], check=False)]
    for call in (*calls, lambda: gather_chains(normal(3, 2))):
        with pytest.raises(RuntimeError, match="one of 2 processes, which must know each other: call torch"):
            call()
    assert noise_for([0], 0, check=False) == Noise(0, sample_ids=[0])  # as a data loader's worker may


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: noise_for([0.5], 0), TypeError, "noise_for: indices must be ints"),
        (lambda: noise_for(torch.zeros(2), 0), TypeError, "noise_for: indices must be ints"),
        (lambda: noise_for([-1], 0), ValueError, "noise_for: indices must be ints"),
        (lambda: noise_for([2**32], 0), ValueError, "noise_for: indices must be ints"),
        (lambda: noise_for([2**70], 0), ValueError, "noise_for: indices must be ints"),
        (lambda: noise_for(3, 0), TypeError, "noise_for: indices must be ints"),
        (lambda: noise_for([0], "a"), TypeError, "noise_for: noise must be a Noise"),
        (lambda: noise_for([0], Noise(0, first_sample=1)), ValueError, "noise_for: noise must have one seed"),
        (lambda: noise_for([0], 0, check=1), TypeError, "noise_for: check must be True or False"),
        (lambda: gather_chains([1.0]), TypeError, "gather_chains: states must be"),
        (
            lambda: gather_chains(torch.zeros(3)),
            ValueError,
            "gather_chains: dim must be one of states' 1 dimensions, got 1",
        ),
        (lambda: gather_chains(torch.zeros(3, 2), dim="x"), TypeError, "gather_chains: dim must be an int"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
