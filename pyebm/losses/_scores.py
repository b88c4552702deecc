"""The objectives' view of ``fn``: its score, and the products of a vector with the score's
Jacobian."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling, is_exporting

from .._derivatives import inside
from .._modes import in_mode
from .._options import check_callable
from ..energy import _leaf, energy_score
from ..targets import Target

Fn = Target | Callable[[Tensor], Tensor]
ScoreFn = Callable[[Tensor], Tensor]
Pull = Callable[[Tensor], Tensor]
_ENERGY = "an energy is made one by functools.partial(pyebm.energy_score, energy, create_graph=True)"


def score_function(op: str, name: str, fn: Any) -> ScoreFn:
    """The score function: fn itself, or the one of the target fn."""
    if isinstance(fn, Target):
        return fn.score
    check_callable(op, name, fn, "a score function or one of pyebm.targets")
    constant = (
        isinstance(fn, functools.partial) and fn.func is energy_score and not fn.keywords.get("create_graph")
    )
    # The loss would have no gradient, which nobody would notice if another loss is added to it.
    if constant and torch.is_grad_enabled():
        raise ValueError(
            f"{op}: {name} must keep the graph to the energy's parameters, unless under torch.no_grad:"
            f" {_ENERGY}"
        )
    return fn  # type: ignore[no-any-return]


def checked_score(op: str, name: str, score: Any, x: Tensor) -> Tensor:
    if not isinstance(score, Tensor):
        raise TypeError(f"{op}: {name} must return a tensor, got {type(score).__name__}")
    if score.shape != x.shape:
        raise ValueError(
            f"{op}: {name} must return a score of x's shape {tuple(x.shape)}, got {tuple(score.shape)};"
            f" {_ENERGY}"
        )
    return score


def with_jacobian(op: str, fn: ScoreFn, x: Tensor, loss: Callable[[Tensor, Pull], Tensor]) -> Tensor:
    """``loss(s(x), pull)`` with ``pull(v) = v' ds/dx``, for each sample.

    The Jacobian is taken in the modes that forbid it too, ``torch.no_grad`` and
    ``torch.inference_mode``; the result is then a constant, as it should be there.
    """
    if is_dynamo_compiling() and is_exporting():
        raise RuntimeError(f"{op}: the gradient of fn can't be exported with strict=True; use strict=False")
    if inside() or is_dynamo_compiling():  # torch.func goes through both, and torch.autograd.grad does not
        made: Any = torch.func.vjp(lambda x: checked_score(op, "fn", fn(x), x), x)
        score, vjp = made
        return loss(score, lambda v: vjp(v)[0])
    follows = torch.is_grad_enabled()

    def evaluate() -> tuple[Tensor, Tensor]:
        at = x if follows and x.requires_grad else _leaf(x)
        return at, checked_score(op, "fn", fn(at), x)

    at, score = in_mode(evaluate, grad=True)

    def differentiate(v: Tensor) -> Tensor | None:
        v = v.clone() if v.is_inference() else v
        options = {"create_graph": follows, "retain_graph": True, "allow_unused": True}
        return torch.autograd.grad(score, at, v, **options)[0]

    def pull(v: Tensor) -> Tensor:
        product = in_mode(lambda: differentiate(v), grad=True) if score.requires_grad else None
        if product is None:
            must = "fn must return a score that depends on x through autograd"
            raise ValueError(f"{op}: {must}, got one that does not; {_ENERGY}")
        return product

    return loss(score if follows else score.detach(), pull)
