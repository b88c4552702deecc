"""Columns that need other processes: two of gloo, and workers of a data loader. Each kind starts
once, for all calls."""

from __future__ import annotations

import builtins
import functools
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import many_processes
import torch
import torch.distributed as dist
from adapter_calls import RUNNABLE
from calls import NOISE, PARTS, Call, Model, Parts, samples
from cases import assert_equal
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

RANKS = 2
Failure = tuple[str, str]  # an error's type and text


def raise_as_here(failure: Failure | None) -> None:
    """What was raised in another process, raised here."""
    if failure is not None:
        raise getattr(builtins, failure[0], AssertionError)(failure[1])


def failure_of(check: Callable[[], Any]) -> Failure | None:
    try:
        check()
    except Exception as error:
        shown = str(error) if isinstance(error, (TypeError, ValueError)) else traceback.format_exc()
        return type(error).__name__, shown
    return None


# --- two processes of gloo


def mine(x: Tensor) -> Tensor:
    """This rank's samples."""
    return x.chunk(RANKS)[dist.get_rank()]


def trained(call: Call, wrap: Callable[[nn.Module], nn.Module], whole: Callable[[Tensor], Tensor]) -> None:
    """A rank has its samples, with their noise: gradients are those of one process that has all of
    them.

    Where there is a result for each sample its bits are the whole's.
    """
    x, model, alone = samples(batch=8), wrap(Model(call)), Model(call)
    noise = NOISE.shard(first_sample=4 * dist.get_rank())
    model(mine(x), noise).backward()
    alone(x).backward()
    for parameter, want in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(whole(parameter.grad), want.grad)
    if call.kind != "loss" and call.name != "PredictorCorrector":  # whose step sizes are its batch's
        assert_equal(call.run(mine(x), noise, PARTS), mine(call(x)))


def ddp(call: Call) -> None:
    trained(call, nn.parallel.DistributedDataParallel, lambda grad: grad)


def fsdp(call: Call) -> None:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import init_device_mesh

    mesh = init_device_mesh("cpu", (RANKS,))
    trained(call, lambda model: fully_shard(model, mesh=mesh), lambda grad: grad.full_tensor())


def dtensor(call: Call) -> None:
    """Sharded by samples, evenly and not: the bits of the whole, a loss within rounding; gradients
    too."""
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    same = torch.testing.assert_close if call.kind == "loss" else assert_equal
    for batch in (8, 7):
        leaf = samples(batch=batch)
        shards = distribute_tensor(leaf, init_device_mesh("cpu", (RANKS,)), [Shard(0)])
        if not call.in_place:
            shards.requires_grad_()
            leaf.requires_grad_()
        made, want = call(shards), call(leaf)
        same(made.full_tensor(), want)
        if not call.in_place:
            made.sum().backward()
            want.sum().backward()
            torch.testing.assert_close(shards.grad.full_tensor(), leaf.grad)


GLOO = {"DDP": ddp, "FSDP2": fsdp, "DTensor": dtensor}


def rank(rank: int, path: str, queue: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=RANKS)
    found = {}
    for name, check in GLOO.items():
        for call in RUNNABLE.values():
            found[name, call.name] = failure_of(functools.partial(check, call))
            dist.barrier()
    queue.put(found)
    dist.destroy_process_group()


@functools.cache
def found_by_two() -> dict[tuple[str, str], Failure | None]:
    context = many_processes.forks()
    queue = context.Queue()
    found: dict[tuple[str, str], Failure | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "store")
        ranks = [context.Process(target=rank, args=(k, path, queue)) for k in range(RANKS)]
        for process in ranks:
            process.start()
        try:
            for _ in ranks:
                for key, failure in queue.get(timeout=300).items():
                    found[key] = found.get(key) or failure
            for process in ranks:
                process.join(60)
        finally:
            for process in ranks:
                process.kill()
    return found


def of_two(column: str, call: Call) -> None:
    raise_as_here(found_by_two()[column, call.name])


# --- workers


class Results(Dataset):
    """Item k is call k's result, or what it raised, in a worker: by objects that came there, and by
    a worker's own."""

    def __init__(self) -> None:
        self.parts, self.noise = Parts(), NOISE
        for call in RUNNABLE.values():
            call.run(samples(), self.noise, self.parts)  # objects that have been used

    def __len__(self) -> int:
        return len(RUNNABLE)

    def __getitem__(self, k: int) -> tuple[list[Tensor], Failure | None]:
        call = list(RUNNABLE.values())[k]
        made: list[Tensor] = []

        def run() -> None:
            made.append(call.run(samples(), self.noise, self.parts).detach())
            made.append(call(samples()).detach())

        return made, failure_of(run)


@functools.cache
def results_of_workers(start: str) -> dict[str, tuple[list[Tensor], Failure | None]]:
    loader = DataLoader(Results(), batch_size=None, num_workers=2, multiprocessing_context=start)
    return dict(zip(RUNNABLE, loader, strict=True))


def of_workers(start: str, call: Call) -> None:
    made, failure = results_of_workers(start)[call.name]
    raise_as_here(failure)
    for one in made:
        assert_equal(one, call(samples()).detach())
