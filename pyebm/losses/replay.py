"""ReplayBuffer: the chains that persistent contrastive divergence keeps between training steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._checks import check_plain, check_samples, checked_number
from .._modes import without_grad
from .._options import check_callable, checked_count, checked_shape, empty
from .._streams import CHOICE, FRESH, START, beside
from ..noise import Noise
from ..targets import Target

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
        group: a process group of torch.distributed whose ranks draw parts of each batch, equally
            many samples each, by ``noise.shard``. Then :meth:`put` gathers what all of them moved,
            and every rank has the same buffer.

    Raises:
        TypeError, ValueError: a size or reinit out of range, a shape, dtype or init that doesn't
            fit.

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
        group: Any = None,
    ) -> None:
        super().__init__()
        self.size = checked_count(_OP, "size", size, 1)
        if self.size > 2**31:
            raise ValueError(f"{_OP}: size must be at most 2**31, got {self.size}")
        self.reinit = checked_number(_OP, "reinit", reinit, 0.0)
        if self.reinit > 1:
            raise ValueError(f"{_OP}: reinit must be a probability in [0, 1], got {self.reinit:g}")
        own = checked_shape(_OP, "shape", (self.size, *shape) if isinstance(shape, (tuple, list)) else shape)
        self.register_buffer("states", empty(_OP, own, dtype, device).zero_())
        self.register_buffer("ages", torch.zeros(self.size, dtype=torch.int64, device=self.states.device))
        self.register_buffer(
            "data", self._checked(init) if isinstance(init, Tensor) else None, persistent=False
        )
        if init is not None and not isinstance(init, Tensor):
            check_callable(
                _OP, "init", init, "None, data, one of pyebm.targets or a function of (shape, noise)"
            )
        self.init = None if isinstance(init, Tensor) else init
        self.group = group

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
        chains = Noise(noise.seed, sample_ids=ids, step=noise.step, stream=noise.stream)
        ids = ids.to(device)
        fresh = (beside(chains, FRESH).rand((count, 1), device=device).squeeze(1) <= self.reinit) | (
            self.ages[ids] == 0
        )
        start = self._start((count, *self.states.shape[1:]), beside(chains, START))
        x = torch.where(fresh.reshape(-1, *[1] * (start.dim() - 1)), start, self.states[ids])
        return Drawn(ids, x, fresh, chains)

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
        ids, fresh, x = drawn.ids, drawn.fresh, x.detach().to(self.states)
        if self.group is not None:
            ids, fresh, x = (_gathered(part, self.group) for part in (ids, fresh, x))
        finite = x.isfinite().reshape(x.shape[0], math.prod(x.shape[1:])).all(1)
        moved = torch.where(fresh, 0, self.ages[ids]) + 1
        self.states[ids] = x
        self.ages[ids] = torch.where(finite, moved, 0)

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
        elif ids.unique().numel() < count:
            raise ValueError(f"{op}: noise must name different samples, got some of the sample_ids twice")
        if count and int(ids.max()) >= self.size:
            raise ValueError(
                f"{op}: count must leave the samples' ids below size, {self.size}, got an id of"
                f" {int(ids.max())}"
            )
        return ids

    def _permutation(self, noise: Noise) -> tuple[int, int]:
        u = Noise(noise.seed, step=noise.step, stream=noise.stream ^ CHOICE).rand((1, 2)).double()
        a, c = (u[0] * self.size).long().clamp(max=self.size - 1).tolist()
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


def _gathered(part: Tensor, group: Any) -> Tensor:
    """The parts of all ranks, concatenated in the order of the ranks."""
    ranks = torch.distributed.get_world_size(group)
    made = [torch.empty_like(part) for _ in range(ranks)]
    torch.distributed.all_gather(made, part.contiguous(), group=group)
    return torch.cat(made)
