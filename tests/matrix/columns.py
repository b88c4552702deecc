"""The table's other side: whatever PyTorch does to a function, as a check of one call. A check that
fails raises."""

from __future__ import annotations

from collections.abc import Callable

import compilers
import processes
import surroundings
import transforms
from calls import Call


def ddp(call: Call) -> None:
    """Two gloo processes with half of the samples each: the gradients of one process that has all
    of them, and the bits of their own samples' results.
    """
    processes.of_two("DDP", call)


def fsdp2(call: Call) -> None:
    """The same with `fully_shard`."""
    processes.of_two("FSDP2", call)


def dtensor(call: Call) -> None:
    """Sharded by samples over two processes, evenly or not: the bits of the whole, losses and
    gradients within rounding."""
    processes.of_two("DTensor", call)


def forked(call: Call) -> None:
    """In a data loader's workers, forked after kernels have run, by objects that came there: the
    same bits."""
    processes.of_workers("fork", call)


def spawned(call: Call) -> None:
    """In spawned workers: the same bits."""
    processes.of_workers("spawn", call)


COLUMNS: dict[str, Callable[[Call], None]] = {
    "grad": transforms.grad,
    "grad of grad": transforms.grad_of_grad,
    "jvp": transforms.jvp,
    "vmap": transforms.vmap,
    "vmap of grad": transforms.vmap_of_grad,
    "checkpoint": transforms.checkpoint,
    "checkpoint, reentrant": transforms.checkpoint_reentrant,
    "functional_call": transforms.functional_call,
    "compile": compilers.compiled,
    "compile, dynamic": compilers.compile_dynamic,
    "export": compilers.export,
    "export, strict": compilers.export_strict,
    "meta": compilers.meta,
    "inference_mode": surroundings.inference_mode,
    "autocast": surroundings.autocast,
    "default dtype": surroundings.default_dtype,
    "default device": surroundings.default_device,
    "deterministic": surroundings.deterministic,
    "subclass": surroundings.subclass,
    "subclass that dispatches": surroundings.dispatching_subclass,
    "deepcopy": surroundings.deepcopy,
    "pickle": surroundings.pickled,
    "DDP": ddp,
    "FSDP2": fsdp2,
    "DTensor": dtensor,
    "workers, forked": forked,
    "workers, spawned": spawned,
    "threads": surroundings.threads,
}
