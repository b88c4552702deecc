"""The states of chains that ranks hold in parts, on the disk, by torch.distributed.checkpoint
(DCP)."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._options import empty, shown
from .._parts import local
from ..noise import Noise
from ..samplers import State
from ._folder import lock
from ._ranks import Ranks
from .chains import share_of

_PREFIX = "step-"
_NAME, _IDS, _SEEDS, _SUMS, _EXTRA = "noise", "sample_ids", "seeds", "checksums", "extra."


def save_state(state: State, folder: Any) -> None:
    """Write all ranks' chains to a folder, by torch.distributed.checkpoint; each rank gives its
    :func:`share` of them. :func:`load_state` reads them on any number of ranks.

    A state is whole or not there, whenever a process is killed. Older states are deleted once it
    is there.

    Args:
        state: this rank's chains, at the same step on all ranks.
        folder: a path, for this run alone.

    Raises:
        TypeError, ValueError: a state or a folder of another type; ranks whose states don't go
            together.
        OSError: a folder that has a state of this step or a later one, that another run is writing
            to, or whose disk is full. The states that are there stay.

    Example:
        >>> import tempfile, torch, pyebm
        >>> sampler = pyebm.samplers.MALA(pyebm.targets.DoubleWell(), 0.1, warmup=20)
        >>> state = pyebm.samplers.State(torch.zeros(8, 2), pyebm.Noise(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for _ in range(3):
        ...         state = sampler(state, 10)
        ...         pyebm.distributed.save_state(state, folder)
        ...     pyebm.distributed.load_state(folder).noise.step
        30
    """
    call, path = "save_state", _path("save_state", folder)
    if not isinstance(state, State):
        raise TypeError(f"{call}: state must be a State, got {shown(state)}")
    with Ranks() as ranks:
        whole, rows = _together(ranks, state)
        locks: list[Any] = []

        def begin() -> None:
            path.mkdir(parents=True, exist_ok=True)
            locks.append(lock(call, path))
            _check_new(path, state.noise.step)

        try:
            ranks.by_first(begin)
            _write(ranks, path / f"{_PREFIX}{state.noise.step:010d}", _placed(ranks, rows) | whole)
            if ranks.rank == 0:
                for step in _steps(path)[:-1]:
                    _delete(path / f"{_PREFIX}{step:010d}")
            ranks.wait(lambda: None)
        finally:
            for file in locks:
                if file is not None:
                    file.close()


def load_state(folder: Any, *, device: torch.device | str = "cpu") -> State:
    """This rank's :func:`share` of the chains that :func:`save_state` wrote last, whatever the
    number of ranks then. A sampler goes on from it with the same bits.

    torch.distributed.checkpoint keeps its list of tensors as a pickle, so load only folders that
    you trust.

    Raises:
        TypeError, ValueError: a folder or device of another type; files that are cut short or
            damaged.
        FileNotFoundError: a folder without a state.

    Example: that of :func:`save_state`, which has an example of both.
    """
    call, path = "load_state", _path("load_state", folder)
    device = empty(call, (0,), torch.float32, device).device
    with Ranks() as ranks:
        steps = ranks.by_first(lambda: _steps(path))
        if not steps:
            raise FileNotFoundError(f"{call}: folder has no state that save_state finished, {path}")
        error: Exception | None = None
        try:
            state = _state(ranks, _read(ranks, path / f"{_PREFIX}{steps[-1]:010d}"), device)
        except Exception as raised:  # torch.load has no error of its own for a damaged file
            error = raised
        if any(ranks.gathered(error is not None)):
            raise ValueError(
                f"{call}: folder has a state that is cut short or damaged, {path}/{_PREFIX}{steps[-1]:010d};"
                " move it away, and the run begins anew"
            ) from error
        return state


def _path(call: str, folder: Any) -> Path:
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"{call}: folder must be a path, got {shown(folder)}")
    return Path(folder)


def _steps(path: Path) -> list[int]:
    """The steps of the states that are whole: DCP writes .metadata last."""
    return sorted(int(one.parent.name[len(_PREFIX) :]) for one in path.glob(f"{_PREFIX}*/.metadata"))


def _check_new(path: Path, step: int) -> None:
    there = _steps(path)
    if there and there[-1] >= step:
        raise FileExistsError(
            f"save_state: folder must hold no state of step {step} or a later one, got {path}, which holds"
            f" step {there[-1]}: go on from load_state, or take another folder"
        )


def _delete(path: Path) -> None:
    (path / ".metadata").unlink(missing_ok=True)  # first: a half deleted state is none
    shutil.rmtree(path, ignore_errors=True)


def _together(ranks: Ranks, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors that are the same on all ranks, and those with a row for each chain."""
    call, noise, count = "save_state", state.noise, state.x.shape[0]
    rows = {"x": state.x} | {_EXTRA + name: one for name, one in state.extra.items() if one.dim()}
    whole = {_EXTRA + name: one for name, one in state.extra.items() if not one.dim()}
    if isinstance(noise.seed, Tensor):
        rows[_SEEDS] = noise.seed
    kinds = {name: (one.dtype, tuple(one.shape[1:])) for name, one in rows.items()}
    same = (kinds, {name: int(one) for name, one in whole.items()}, noise.step, noise.stream)
    seed = None if _SEEDS in rows else noise.seed
    facts = ranks.gathered(((same, seed), count, noise.first_sample, noise.sample_ids is not None))
    others = [rank for rank, fact in enumerate(facts) if fact[0] != facts[0][0]]
    if others:
        raise ValueError(
            f"{call}: state must have the same step, seed, stream, kinds and warm-up on all ranks; those of"
            f" ranks 0 and {others[0]} differ"
        )
    counts = [fact[1] for fact in facts]
    must = [len(share_of(sum(counts), rank, ranks.size)) for rank in range(ranks.size)]
    if counts != must:
        raise ValueError(
            f"{call}: state must have each rank's share({sum(counts)}) of the chains, {must}, got {counts}"
        )
    firsts = [fact[2] for fact in facts]
    in_a_row = all(first == firsts[0] + sum(counts[:rank]) for rank, first in enumerate(firsts))
    if any(fact[3] for fact in facts) or not in_a_row:
        ids = noise.sample_ids
        rows[_IDS] = noise.first_sample + torch.arange(count, device="cpu") if ids is None else ids
    rows = {name: one.detach().cpu().contiguous() for name, one in rows.items()}
    rows[_SUMS] = _checksums(rows, count)
    first = 0 if _IDS in rows else firsts[0]
    name = Noise(0 if seed is None else seed, first_sample=first, step=noise.step, stream=noise.stream)._name
    return {_NAME: name} | {key: one.cpu() for key, one in whole.items()}, rows


def _checksums(rows: dict[str, Tensor], count: int) -> Tensor:
    """A number for each chain, int64 (count,), that any bit of its rows would change, and any two
    of them with near certainty."""
    total = torch.zeros(count, dtype=torch.int64, device="cpu")
    for name in sorted(rows):
        flat = rows[name].reshape(count, rows[name][:1].numel())
        words = flat.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]).long()
        odd = 2 * torch.arange(words.shape[1], device="cpu") + 1
        total = total * 31 + (words * odd).sum(1)
    return total


def _placed(ranks: Ranks, rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows as DTensors; without torch.distributed as they are."""
    if ranks.group is None:
        return rows
    from torch.distributed.tensor import DTensor, Shard

    mesh = _mesh(ranks)
    total = sum(ranks.gathered(len(rows["x"])))
    tensors: dict[str, Tensor] = {}
    for name, one in rows.items():
        like = torch.empty((total, *one.shape[1:]), device="meta")
        tensors[name] = DTensor.from_local(
            one, mesh, [Shard(0)], run_check=False, shape=like.shape, stride=like.stride()
        )
    return tensors


def _mesh(ranks: Ranks) -> Any:
    from torch.distributed.device_mesh import DeviceMesh

    return DeviceMesh.from_group(ranks.group, "cpu")


def _dcp() -> Any:  # its modules don't say which of their names are public
    import torch.distributed.checkpoint as dcp

    return dcp


def _write(ranks: Ranks, path: Path, tensors: dict[str, Tensor]) -> None:
    dcp = _dcp()
    try:
        _by_all(ranks, dcp.save, tensors, storage_writer=dcp.FileSystemWriter(path))
    except (OSError, RuntimeError) as error:
        said = f"save_state: {path} could not be written; the state before it stays: {error}"
        raise OSError(said) from None


def _by_all(ranks: Ranks, call: Any, tensors: dict[str, Tensor], **storage: Any) -> None:
    with warnings.catch_warnings():  # DCP warns a process that it is alone
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        try:
            call(tensors, process_group=ranks.group, no_dist=ranks.group is None, **storage)
        except _dcp().api.CheckpointException as error:  # a BaseException, with each rank's error in it
            rank, (first, _) = next(iter(error.failures.items()))
            raise RuntimeError(f"rank {rank}: {first}") from None


def _read(ranks: Ranks, path: Path) -> dict[str, Tensor]:
    """The tensors as they were written; each rank has its share of those with a row for each
    chain."""
    dcp = _dcp()
    reader = dcp.FileSystemReader(path)
    tensors: dict[str, Any] = {}
    for name, kind in reader.read_metadata().state_dict_metadata.items():
        size, dtype = kind.size, kind.properties.dtype
        if ranks.group is None or not size or name == _NAME:
            tensors[name] = torch.empty(size, dtype=dtype, device="cpu")
        else:
            from torch.distributed.tensor import Shard, zeros

            tensors[name] = zeros(size, dtype=dtype, device_mesh=_mesh(ranks), placements=[Shard(0)])
    _by_all(ranks, dcp.load, tensors, storage_reader=reader)
    return tensors


def _state(ranks: Ranks, whole: dict[str, Tensor], device: torch.device) -> State:
    read = {name: local(one) for name, one in whole.items()}
    rows = {name: one for name, one in read.items() if name not in (_NAME, _SUMS) and one.dim()}
    if not torch.equal(_checksums(rows, len(read["x"])), read[_SUMS]):
        raise ValueError("other numbers than were written")
    seed, first, step, stream = read[_NAME].tolist()
    ids = read.get(_IDS)
    if ids is None:
        first += share_of(len(whole["x"]), ranks.rank, ranks.size).start
    noise = Noise(read.get(_SEEDS, seed), first_sample=first, sample_ids=ids, step=step, stream=stream)
    extra = {name[len(_EXTRA) :]: one for name, one in read.items() if name.startswith(_EXTRA)}
    on_device = {name: one.to(device) if one.dim() else one for name, one in extra.items()}
    return State(read["x"].to(device), noise, on_device)
