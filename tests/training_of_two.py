"""test_distributed runs these checks in two processes that each train on, or sample, half of a
batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from cases import assert_equal, normal
from torch import nn

import pyebm
from pyebm import Noise


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 2))


class Residual(nn.Module):
    """A network's output plus a target's score: a model with our buffers."""

    def __init__(self):
        super().__init__()
        self.net, self.target = net(), pyebm.targets.DoubleWell(barrier=1.0 + dist.get_rank())

    def forward(self, x, sigma, noise):
        noisy = pyebm.perturb(x, sigma, noise)
        return pyebm.dsm_loss(self.net(noisy) + self.target.score(noisy), sigma, noise)


def whole_gradients(x, noise):
    """Returns the gradients of one process that has the whole batch; the target's numbers are
    rank 0's."""
    model = Residual()
    model.target = pyebm.targets.DoubleWell(barrier=1.0)
    model(x, 0.5, noise).backward()
    return [p.grad for p in model.parameters()]


def mine(x):
    return x.chunk(2)[dist.get_rank()]


def ddp(_):
    """DDP broadcasts rank 0's buffers and averages the ranks' gradients, which gives those of
    the whole batch."""
    x = normal(8, 2)
    model = nn.parallel.DistributedDataParallel(Residual())
    for step in range(2):
        noise = Noise(1, step=step)
        model.zero_grad()
        model(mine(x), 0.5, noise.shard(first_sample=4 * dist.get_rank())).backward()
        for parameter, want in zip(model.parameters(), whole_gradients(x, noise), strict=True):
            torch.testing.assert_close(parameter.grad, want)


def fsdp(_):
    """FSDP2 shards the parameters, not the samples."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import init_device_mesh

    x, noise = normal(8, 2), Noise(1)
    model = Residual()
    model.target = pyebm.targets.DoubleWell(barrier=1.0)
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    model(mine(x), 0.5, noise.shard(first_sample=4 * dist.get_rank())).backward()
    for parameter, want in zip(model.parameters(), whole_gradients(x, noise), strict=True):
        torch.testing.assert_close(parameter.grad.full_tensor(), want)


def samplers(_):
    """A rank's chains, with the noise of their ids, are those of one process that has all
    chains."""
    from pyebm.samplers import HMC, MALA, Langevin

    x, target = normal(8, 2), pyebm.targets.DoubleWell()
    for sampler in (Langevin(torch.neg, 0.1), Langevin(target, 0.1), MALA(target, 0.1), HMC(target, 0.1, 3)):
        got = sampler(mine(x), 5, noise=Noise(1, first_sample=4 * dist.get_rank()))
        assert_equal(got, mine(sampler(x, 5, noise=Noise(1))))
