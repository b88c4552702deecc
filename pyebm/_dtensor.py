"""Tensor subclasses at the public calls: each rank works on its shard of a DTensor; other types
with operations of their own are refused."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from ._checks import check_plain, is_dtensor
from .noise import Noise

_P = ParamSpec("_P")
_R = TypeVar("_R")


def by_samples(
    function: Callable[_P, _R], composed: bool = False, samples: str | None = None
) -> Callable[_P, _R]:
    """Decorates a public function of samples so that it takes DTensors too: each rank computes its
    own samples, with the noise that they have in the whole batch.

    The samples are the argument named ``samples``, by default the function's first (after self).
    For a plain tensor the decorator costs one look at its type. composed: the function is made of
    torch's operations, so that other tensor types may come too.
    """
    names = list(inspect.signature(function).parameters)
    at = names.index(samples) if samples is not None else 1 if names[0] == "self" else 0
    name = names[at]

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        x = args[at] if len(args) > at else kwargs.get(name)
        if type(x) is Tensor or not isinstance(x, Tensor):
            return function(*args, **kwargs)
        if not is_dtensor(x):
            if not composed:
                check_plain(function.__name__, name, x)
            return function(*args, **kwargs)
        value: _R = _sharded(function, name, x, args, kwargs)
        return value

    return call


def _sharded(function: Callable[..., Any], name: str, x: Any, args: Any, kwargs: Any) -> Any:
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    shard = _Shard(function.__name__, name, x)
    arguments = shard.arguments(bound.arguments)
    return shard.results(function(**arguments), arguments)


class _Shard:
    """This rank's samples of a DTensor. Over each dimension of its mesh the DTensor is sharded by
    samples or replicated."""

    def __init__(self, op: str, name: str, x: Any) -> None:
        from torch.distributed.tensor import Partial, Replicate, Shard
        from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

        self.op, self.name, self.x = op, name, x
        self.mesh, self.placements = x.device_mesh, tuple(x.placements)
        if x.dim() == 0 or not all(
            type(p) is Replicate or (type(p) is Shard and p.dim == 0) for p in self.placements
        ):
            raise ValueError(
                f"{op}: {name} must be sharded by samples, Shard(0), or replicated, got the placements"
                f" {self.placements}; redistribute it"
            )
        self.batch = x.shape[0]
        shape, offset = compute_local_shape_and_global_offset(x.shape, self.mesh, self.placements)
        self.count, self.first = shape[0], offset[0] if shape[0] else 0
        self.local = _waited(x.to_local())
        if tuple(self.local.shape) != tuple(shape):
            raise ValueError(
                f"{op}: {name} must be split evenly, as distribute_tensor does; this rank should have"
                f" {tuple(shape)}, got {tuple(self.local.shape)}"
            )
        # Each rank holds only its own samples' part of a loss, and of the gradient of a replicated
        # tensor; the parts are added.
        self.summed = [Partial() if type(p) is Shard else Replicate() for p in self.placements]

    def arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """The call's arguments for this rank's samples."""
        own = dict(given)
        for name, value in given.items():
            if name == self.name:
                own[name] = self.local
            elif isinstance(value, Noise):
                own[name] = self._noise(value)
            elif isinstance(value, Tensor):
                by_step = "n_steps" in given and name != "mask"
                own[name] = (
                    self._schedule(name, value, given["n_steps"]) if by_step else self._part(name, value)
                )
            elif isinstance(value, nn.Module) and not _is_constant(value, given):
                self._check_frozen(name, value)
        return own

    def _noise(self, noise: Noise) -> Noise:
        first, end = self.first, self.first + self.count
        seeds, ids = noise.seed, noise.sample_ids
        if not isinstance(seeds, Tensor) and ids is None:
            return noise.shard(first_sample=noise.first_sample + first)
        for name, rows in (("seed", seeds), ("sample_ids", ids)):
            if isinstance(rows, Tensor) and len(rows) != self.batch:
                raise ValueError(f"{self.op}: {name} names {len(rows)} samples, got a batch of {self.batch}")
        return Noise(
            seeds[first:end] if isinstance(seeds, Tensor) else seeds,
            first_sample=0 if ids is not None else noise.first_sample + first,
            sample_ids=None if ids is None else ids[first:end],
            step=noise.step,
            stream=noise.stream,
        )

    def _schedule(self, name: str, value: Any, n_steps: int) -> Any:
        """A chain's coefficient: one value per step, as a list, or per sample."""
        if value.dim() != 1 or len(value) != n_steps or n_steps == 1:
            return self._part(name, value)
        if n_steps == self.batch:
            raise ValueError(
                f"{self.op}: {name} of shape ({n_steps},) could be one value per sample or one per step; "
                f"give ({n_steps}, 1) for one per sample, or a list for one per step"
            )
        return self._part(name, value).tolist()

    def _part(self, name: str, value: Any) -> Any:
        """This rank's rows of a tensor that has one row for each sample of the whole batch; other
        values as they are."""
        if is_dtensor(value):
            if value.device_mesh != self.mesh:
                raise ValueError(f"{self.op}: {name} must be on {self.name}'s mesh")
            placements = tuple(value.placements)
            if placements == self.placements:
                return _waited(value.to_local())
            if not all(p.is_replicate() for p in placements):
                must = f"{name} must be placed as {self.name}, {self.placements}, or replicated"
                raise ValueError(f"{self.op}: {must}, got {placements}")
            value = _waited(value.to_local(grad_placements=self.summed))
        elif value.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{self.op}: {name} must be a DTensor like {self.name} where it requires grad, or each rank"
                " has a part of it"
            )
        by_row = (
            value.dim() > 0
            and value.shape[0] == self.batch
            and (name != "mask" or value.dim() == self.x.dim())
        )
        return value.narrow(0, self.first, self.count) if by_row else value

    def _check_frozen(self, name: str, module: nn.Module) -> None:
        if torch.is_grad_enabled() and any(
            value.requires_grad for value in (*module.parameters(), *module.buffers())
        ):
            raise ValueError(
                f"{self.op}: {name} must not require grad where {self.name} is a DTensor: each rank has a"
                " part of it"
            )

    def results(self, result: Any, arguments: dict[str, Any]) -> Any:
        """The function's result for this rank's samples, as this rank's part of a DTensor."""
        if isinstance(result, tuple):
            return tuple(self.results(one, arguments) for one in result)
        return self.x if result is self.local else self._whole(result, arguments.get("reduction", "none"))

    def _whole(self, result: Tensor, reduction: str) -> Any:
        from torch.distributed.tensor import DTensor, Shard

        if reduction in ("sum", "mean", "batchmean"):
            # The mean of the whole is made from the shards' means, exactly for 2, 4, 8, ... equal
            # shards.
            if reduction != "sum" and self.batch:
                result = result * (self.count / self.batch) if self.count else result.nan_to_num(0.0)
            return DTensor.from_local(result, self.mesh, self.summed)
        samples = 1 if result.dim() > self.x.dim() else 0  # a chain's kept states come first
        shape = torch.Size((*result.shape[:samples], self.batch, *result.shape[samples + 1 :]))
        as_x = shape == self.x.shape and result.stride() == self.local.stride()
        stride = self.x.stride() if as_x else torch.empty(shape, device="meta").stride()
        placements = [Shard(samples) if p.is_shard() else p for p in self.placements]
        return DTensor.from_local(result, self.mesh, placements, shape=shape, stride=stride)


def _is_constant(target: Any, given: dict[str, Any]) -> bool:
    """Whether the call's result is a constant with respect to this target's parameters."""
    follows = given.get("differentiable", True)
    return not (getattr(target, "follows", True) if follows is None else follows)


def _waited(local: Any) -> Any:
    """The local tensor, after a wait for the collective that may still be writing it."""
    return local.wait() if type(local).__name__ == "AsyncCollectiveTensor" else local
