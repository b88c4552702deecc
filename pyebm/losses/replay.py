"""ReplayBuffer: the chains that persistent contrastive divergence keeps between training steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._checks import check_plain, check_samples, checked_number
from .._modes import without_grad
from .._options import check_callable, check_dtype, checked_count, checked_device, checked_shape, empty
from .._parts import local
from .._streams import CHOICE, FRESH, START, beside
from ..noise import Noise
from ..targets import Target
from ._shards import Shards, checked_mesh

Init = Tensor | Target | Callable[[Sequence[int], Noise], Tensor]
_OP = "ReplayBuffer"


class Drawn(NamedTuple):
    """Chains that a buffer gave out.

    Example:
        >>> import pyebm
        >>> drawn = pyebm.ReplayBuffer(100, (2,)).draw(8, pyebm.Noise(0))
        >>> drawn.x.shape, bool(drawn.fresh.all())
        (torch.Size([8, 2]), True)
    """

    ids: Tensor
    """Which they are, int64 (B,) on the buffer's device."""
    x: Tensor
    """Their states (B, ...)."""
    fresh: Tensor
    """bool (B,): those that begin here."""
    noise: Noise
    """The noise that was given, for these chains: it names them by their ids."""


class ReplayBuffer(nn.Module):
    """``size`` chains that are moved a batch at a time (Tieleman 2008). Each time a batch is drawn,
    some of its chains begin anew (Du & Mordatch 2019).

    The choice of a batch's chains, which of them begin anew and where, and how they move depend on
    the noise's seed and step and on a chain's id alone. So a batch may be drawn in parts or by
    several ranks, in any order, with the same bits. The buffer consists of two tensors, ``states``
    (size, ...) and ``ages`` (size,), which counts how many times a chain was moved since it began.
    So ``state_dict()`` and the noise's step are all that a run needs to go on.

    Args:
        size: how many chains.
        shape: the shape of one chain's state, without the first dimension of samples.
        reinit: the probability that a chain begins anew when it is drawn, in [0, 1].
        init: where chains begin: None for a standard normal; data (N, *shape), of which each takes
            a row at random; a prior with exact samples among :mod:`pyebm.targets`; or a function of
            (shape, noise), as ``Target.sample`` is one.
        dtype, device: those of the states.
        mesh: a DeviceMesh of one dimension, whose ranks draw parts of each batch, by
            ``noise.shard``, all of them together. ``states`` and ``ages`` are then DTensors,
            ``Shard(0)``: each rank holds its share of the chains, a chain that is drawn goes to the
            rank that draws it and comes back by :meth:`put`. The chains are those of one process,
            and torch.distributed.checkpoint saves them for any other number of ranks. ``device`` is
            the mesh's.

    Raises:
        TypeError, ValueError: a size or reinit out of range, a shape, dtype, init or mesh that
            doesn't fit.

    Example:
        >>> import torch, pyebm
        >>> buffer, noise = pyebm.ReplayBuffer(1000, (2,)), pyebm.Noise(0)
        >>> drawn = buffer.draw(64, noise.at(step=7))
        >>> moved = pyebm.langevin_chain(drawn.x, pyebm.targets.DoubleWell(), 10, 0.01, drawn.noise)
        >>> buffer.put(drawn, moved)
        >>> int((buffer.ages > 0).sum())
        64
    """

    size: int
    reinit: float
    init: Target | Callable[[Sequence[int], Noise], Tensor] | None
    states: Tensor
    ages: Tensor
    data: Tensor | None

    def __init__(
        self,
        size: int,
        shape: Sequence[int],
        reinit: float = 0.05,
        init: Init | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        mesh: Any = None,
    ) -> None:
        super().__init__()
        self.size = checked_count(_OP, "size", size, 1)
        if self.size > 2**31:
            raise ValueError(f"{_OP}: size must be at most 2**31, got {self.size}")
        self.reinit = checked_number(_OP, "reinit", reinit, 0.0)
        if self.reinit > 1:
            raise ValueError(f"{_OP}: reinit must be a probability in [0, 1], got {self.reinit:g}")
        own = checked_shape(_OP, "shape", (self.size, *shape) if isinstance(shape, (tuple, list)) else shape)
        mesh = checked_mesh(_OP, mesh)
        self._shards = None if mesh is None else Shards(mesh, self.size)
        if self._shards is None:
            self.register_buffer("states", empty(_OP, own, dtype, device).zero_())
            self.register_buffer("ages", torch.zeros(self.size, dtype=torch.int64, device=self.states.device))
        else:
            check_dtype(_OP, dtype)
            kind = checked_device(_OP, device).type
            if kind not in ("cpu", mesh.device_type):
                raise ValueError(f"{_OP}: device must be the mesh's, {mesh.device_type}, got {kind}")
            self.register_buffer("states", self._shards.zeros(own[1:], dtype))
            self.register_buffer("ages", self._shards.zeros((), torch.int64))
        self.register_buffer(
            "data", self._checked(init) if isinstance(init, Tensor) else None, persistent=False
        )
        if init is not None and not isinstance(init, Tensor):
            check_callable(
                _OP, "init", init, "None, data, one of pyebm.targets or a function of (shape, noise)"
            )
        self.init = None if isinstance(init, Tensor) else init

    @without_grad
    def draw(self, count: int, noise: Noise) -> Drawn:
        """``count`` different chains, one for each sample that ``noise`` names (for a part of a
        batch give ``noise.shard(first_sample=...)``).

        Sample b gets chain ``(a b + c) mod size``. a and c are drawn from the noise, a without a
        common divisor with size, so each chain is as likely as another. Within one training step,
        that is one ``noise.step``, sample ids below size get different chains.

        Raises TypeError and ValueError for a count or noise that doesn't fit: sample ids that are
        not below size, or occur twice; a seed per sample.
        """
        op = f"{_OP}.draw"
        count = int(checked_count(op, "count", count))
        samples = self._samples(op, count, noise)
        device = self.states.device
        a, c = self._permutation(noise)
        ids = (a * samples + c) % self.size  # on the CPU, since names are made there
        chains = noise._of(ids.clone())
        ids = ids.to(device)
        kept, ages = self._rows(op, ids)
        fresh = (beside(chains, FRESH).rand((count, 1), device=device).squeeze(1) <= self.reinit) | (
            ages == 0
        )
        start = self._start((count, *self.states.shape[1:]), beside(chains, START))
        x = torch.where(fresh.reshape(-1, *[1] * (start.dim() - 1)), start, kept)
        return Drawn(ids, x, fresh, chains)

    def _rows(self, op: str, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The states and ages of these chains."""
        if self._shards is None:
            return self.states.index_select(0, ids), self.ages.index_select(0, ids)
        route = self._shards.route(ids)
        if twice := len(route.every) - route.every.unique().numel():
            raise ValueError(
                f"{op}: noise must name different samples on all ranks, got {twice} that another rank has"
                " too; give each rank its noise.shard(first_sample=...)"
            )
        return route.fetched(local(self.states)), route.fetched(local(self.ages))

    @without_grad
    def put(self, drawn: Drawn, x: Tensor) -> None:
        """Store the states x (B, ...) that the chains have reached. A chain that is not finite
        begins anew when it is drawn next.

        Raises TypeError and ValueError for an x that is not like ``drawn.x``.
        """
        op = f"{_OP}.put"
        if not isinstance(x, Tensor) or x.shape != drawn.x.shape:
            raise ValueError(
                f"{op}: x must have the shape that was drawn, {tuple(drawn.x.shape)}, got"
                f" {getattr(x, 'shape', x)}"
            )
        rows, fresh, x = drawn.ids, drawn.fresh, x.detach().to(self.states.device, self.states.dtype)
        if self._shards is not None:
            route = self._shards.route(rows)
            rows, fresh, x = route.rows, route.sent(fresh), route.sent(x)
        states, ages = local(self.states), local(self.ages)
        finite = x.isfinite().reshape(x.shape[0], math.prod(x.shape[1:])).all(1)
        moved = torch.where(fresh, 0, ages.index_select(0, rows)) + 1
        states.index_copy_(0, rows, x)
        ages.index_copy_(0, rows, torch.where(finite, moved, 0))

    def __len__(self) -> int:
        return self.size

    def extra_repr(self) -> str:
        return f"{self.size}, {tuple(self.states.shape[1:])}, reinit={self.reinit:g}"

    def _checked(self, data: Tensor) -> Tensor:
        check_samples(_OP, "init", data)
        check_plain(_OP, "init", data)
        shape, dtype = self.states.shape[1:], self.states.dtype
        if data.shape[1:] != shape or not data.shape[0]:
            raise ValueError(
                f"{_OP}: init must be data (N, {', '.join(map(str, shape))}), got {data.dtype}"
                f" {tuple(data.shape)}"
            )
        return data.detach().to(self.states.device, dtype)

    def _samples(self, op: str, count: int, noise: Noise) -> Tensor:
        """Checks that the batch's samples get different chains; returns the samples' ids."""
        if not isinstance(noise, Noise):
            raise TypeError(f"{op}: noise must be a Noise, got {type(noise).__name__}")
        if isinstance(noise.seed, Tensor):
            raise ValueError(f"{op}: noise must have one seed for all chains, got one per sample")
        noise._check_batch(count)
        ids = noise.sample_ids
        if ids is None:
            ids = torch.arange(
                noise.first_sample, noise.first_sample + count, dtype=torch.int64, device="cpu"
            )
            highest = noise.first_sample + count - 1
        else:
            if ids.unique().numel() < count:
                raise ValueError(f"{op}: noise must name different samples, got some of the sample_ids twice")
            highest = int(ids.max()) if count else -1
        if count and highest >= self.size:
            raise ValueError(
                f"{op}: count must leave the samples' ids below size, {self.size}, got an id of {highest}"
            )
        return ids

    def _permutation(self, noise: Noise) -> tuple[int, int]:
        (u,) = beside(noise._of(None), CHOICE).rand((1, 2)).tolist()
        a, c = (min(int(number * self.size), self.size - 1) for number in u)
        while math.gcd(a, self.size) != 1:
            a = (a + 1) % self.size
        return a, c

    def _start(self, shape: Sequence[int], noise: Noise) -> Tensor:
        dtype, device = self.states.dtype, self.states.device
        if self.data is not None:
            rows = self.data.shape[0]
            u = noise.rand((shape[0], 1), dtype=torch.float64, device=device).squeeze(1)
            return self.data[(u * rows).long().clamp(max=rows - 1)]
        if self.init is None:
            return noise.randn(shape, dtype=dtype, device=device)
        if isinstance(self.init, Target):
            return self.init.sample(shape, noise, dtype=dtype)
        made = self.init(shape, noise)
        if not isinstance(made, Tensor) or made.shape != torch.Size(shape):
            got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ValueError(
                f"{_OP}.draw: init must return a tensor of the shape that it is given, {tuple(shape)}, got"
                f" {got}"
            )
        return made.to(device, dtype)
