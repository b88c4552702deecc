"""Chains that ranks hold in parts: shared buffers, contrastive divergence under DDP and FSDP2, and
step sizes that adapt together are those of one process with all chains."""

from __future__ import annotations

import copy
import functools
import os
import traceback

import many_processes
import pytest
import torch
import torch.distributed as dist
from cases import assert_equal, normal
from torch import nn

import pyebm
from pyebm import Noise, ReplayBuffer
from pyebm.distributed import gather_chains, share
from pyebm.losses import ContrastiveDivergence
from pyebm.samplers import HMC, MALA, Langevin

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo here"
)


def mesh():
    from torch.distributed.tensor import init_device_mesh

    return init_device_mesh("cpu", (dist.get_world_size(),))


def part(x):
    """This rank's samples; of 4 the last of 3 ranks has none."""
    mine = share(len(x))
    return x[mine.start : mine.stop], mine.start


def moved(buffer, count, noise):
    drawn = buffer.draw(count, noise)
    buffer.put(drawn, drawn.x + 0.1 * drawn.noise.randn(drawn.x.shape, dtype=drawn.x.dtype))
    return drawn


def buffer(_):
    """Drawn by their ids from wherever they are, the chains are those of one process."""
    batch = torch.arange(4)
    for shape, dtype in (((2, 1), torch.float32), ((), torch.bfloat16), ((0,), torch.float64)):
        spread, alone = (ReplayBuffer(19, shape, 0.2, dtype=dtype, mesh=place) for place in (mesh(), None))
        assert len(spread.states.to_local()) == len(share(19))
        for step in range(12):  # so that most chains that are drawn were moved before
            noise = Noise(1, step=step)
            mine, first = part(batch)
            got = moved(spread, len(mine), noise.shard(first_sample=first))
            want = moved(alone, 4, noise)
            assert_equal(got.x, part(want.x)[0])
            assert_equal(got.fresh, part(want.fresh)[0])
        spread = copy.deepcopy(spread)
        moved(spread, len(mine), Noise(1, step=12, first_sample=first))
        moved(alone, 4, Noise(1, step=12))
        for name, value in alone.state_dict().items():
            assert_equal(spread.state_dict()[name].full_tensor(), value)


def lost_chain(_):
    spread = ReplayBuffer(8, (1,), 0.0, mesh=mesh())
    mine, first = part(torch.arange(8))
    drawn = spread.draw(len(mine), Noise(0, first_sample=first))
    spread.put(drawn, torch.where(drawn.ids[:, None] == 3, torch.nan, drawn.x))
    assert spread.ages.full_tensor().tolist() == [1, 1, 1, 0, 1, 1, 1, 1]


def refused_buffers(_):
    spread = ReplayBuffer(9, (1,), mesh=mesh())
    with pytest.raises(
        ValueError, match=r"ReplayBuffer.draw: noise must name different samples on all ranks, got \d+ that"
    ):
        spread.draw(2, Noise(0))
    with pytest.raises(ValueError, match="device must be the mesh's, cpu, got meta"):
        ReplayBuffer(9, (1,), mesh=mesh(), device="meta")
    with pytest.raises(TypeError, match="dtype must be"):
        ReplayBuffer(9, (1,), mesh=mesh(), dtype=torch.int64)


def saved_buffer(folder):
    """DCP saves each rank's share; the state of W ranks goes on with any other number."""
    import torch.distributed.checkpoint as dcp

    spread = ReplayBuffer(19, (2,), 0.2, mesh=mesh())
    step, there = 0, sorted(int(one) for one in os.listdir(folder))
    if there:
        step = there[-1]
        dcp.load(spread.state_dict(), checkpoint_id=f"{folder}/{step}")
    mine, first = part(torch.arange(4))
    for k in range(step, step + 9):
        moved(spread, len(mine), Noise(2, step=k, first_sample=first))
    dcp.save(spread.state_dict(), checkpoint_id=f"{folder}/{step + 9}")
    alone = ReplayBuffer(19, (2,), 0.2)
    for k in range(step + 9):
        moved(alone, 4, Noise(2, step=k))
    assert_equal(spread.states.full_tensor(), alone.states)
    assert_equal(spread.ages.full_tensor(), alone.ages)


class Energy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 1))

    def forward(self, x):
        return self.net(x).squeeze(1) + 0.5 * x.square().sum(1)


def trained(cd, parameters, x, noise, steps=2):
    """Trains, and returns the losses. The learning rate is 1, so that a wrong gradient shows in the
    next loss."""
    optimiser, losses = torch.optim.SGD(parameters, lr=1.0), []
    for step in range(steps):
        loss = cd(x, noise.at(step=step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def contrast(wrapped, energy, place=None):
    """Persistent contrastive divergence. The chains run on the energy itself, the loss goes through
    what wraps it."""
    sampler = Langevin(functools.partial(pyebm.energy_score, energy), 0.05)
    return ContrastiveDivergence(wrapped, sampler, 3, ReplayBuffer(40, (2,), 0.3, mesh=place), l2=0.1)


def compared(energy, wrapped, full):
    ranks, alone = dist.get_world_size(), Energy()
    x = normal(4 * ranks, 2)
    mine, first = part(x)
    spread, single = contrast(wrapped, energy, mesh()), contrast(alone, alone)
    got = trained(spread, wrapped.parameters(), mine, Noise(3, first_sample=first))
    want = trained(single, alone.parameters(), x, Noise(3))
    dist.all_reduce(got)
    torch.testing.assert_close(got / ranks, want)
    for parameter, other in zip(wrapped.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(full(parameter), other)
    torch.testing.assert_close(spread.buffer.states.full_tensor(), single.buffer.states)
    assert_equal(spread.buffer.ages.full_tensor(), single.buffer.ages)


def cd_ddp(_):
    energy = Energy()
    compared(energy, nn.parallel.DistributedDataParallel(energy), lambda parameter: parameter)


def cd_fsdp(_):
    from torch.distributed.fsdp import fully_shard

    energy = Energy()
    fully_shard(energy, mesh=mesh())
    compared(energy, energy, lambda parameter: parameter.full_tensor())


def adapted(_):
    """All ranks' chains warm up together to the bits of one process, and go on from its State."""
    x, target = normal(4, 2), pyebm.targets.DoubleWell()
    mine, first = part(x)
    for make in (
        lambda **given: MALA(target, 0.3, warmup=20, **given),  # in one launch after its warm-up
        lambda **given: MALA(target, 0.3, warmup=30, adapt_mass=True, **given),
        lambda **given: HMC(lambda x: x.square().sum(1), 0.3, 2, jitter=0.2, warmup=10, **given),
    ):
        spread, alone = make(per="batch", group=dist.group.WORLD), make(per="batch")
        got = spread(mine, 15, noise=Noise(0, first_sample=first), thin=5)
        want = alone(x, 15, noise=Noise(0), thin=5)
        for _ in range(2):
            assert_equal(gather_chains(got.states), want.states)
            assert_equal(gather_chains(got.info["step_size"]), want.info["step_size"])
            got, want = spread(got.state, 20, thin=5), alone(want.state, 20, thin=5)
        for name, value in want.state.extra.items():
            assert_equal(got.state.extra[name], part(value)[0] if value.dim() else value)


def refused_groups(_):
    group = dist.group.WORLD
    with pytest.raises(ValueError, match="MALA: group must be None where per is 'sample'"):
        MALA(torch.square, 0.1, warmup=10, group=group)
    sampler = MALA(torch.square, 0.1, warmup=10, per="batch", group=group)
    with pytest.raises(ValueError, match="sample: sampler must have no group"):
        pyebm.distributed.sample(sampler, (2,), ids=[0], noise=0, batch=1, out="out", n_steps=1)


CHECKS = {
    check.__name__: check
    for check in (
        *(buffer, lost_chain, refused_buffers, saved_buffer, cd_ddp, cd_fsdp, adapted, refused_groups),
    )
}


def work(folder):
    dist.init_process_group("gloo")
    raised = {}
    for name, check in CHECKS.items():
        try:
            check(folder)
        except BaseException:  # noqa: PERF203
            raised[name] = f"rank {dist.get_rank()}: {traceback.format_exc()}"
    dist.barrier()
    dist.destroy_process_group()
    return raised


@pytest.fixture(scope="module")
def raised(tmp_path_factory):
    """What the checks raise on 2 ranks, and then on 3."""
    folder = tmp_path_factory.mktemp("buffer")
    return [one for world in (2, 3) for one in many_processes.run(world, work, folder)]


@pytest.mark.parametrize("name", CHECKS)
def test_many_processes(name, raised):
    assert all(isinstance(one, dict) for one in raised), raised
    assert not any(name in one for one in raised), "\n".join(one.get(name, "") for one in raised)
