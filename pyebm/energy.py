"""The score of an energy-based model: s(x) = grad log p(x) = -grad E(x)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling, is_exporting

from ._checks import check_samples
from ._derivatives import inside
from ._modes import in_mode
from ._options import check_callable, checked_flag


def energy_score(energy_fn: Callable[[Tensor], Tensor], x: Tensor, *, create_graph: bool = False) -> Tensor:
    """``-grad E`` at every sample, for ``p(x) = exp(-E(x)) / Z``.

    Args:
        energy_fn: maps (B, ...) to one energy a sample, (B,) or (B, 1); a sample's energy must
            depend on that sample only.
        x: (B, ...), floating point. It need not require grad; if it does and create_graph is True,
            the score is differentiable in it too.
        create_graph: True to train an energy network through its score (Vincent 2011; Saremi et al.
            2018): the result then carries the graph to the network's parameters. False for
            sampling: the result is detached.

    Returns:
        The score, shape and dtype of x. Works inside ``torch.no_grad()`` and
        ``torch.inference_mode()``: the gradient is taken outside of both, and the result is an
        ordinary tensor. (torch can't differentiate through weights that were *made* in inference
        mode.) In forward mode and in the transforms of ``torch.func`` the score is always
        differentiable.

    Raises:
        TypeError: x is not a real floating-point tensor, or the energy is not a tensor.
        ValueError: the energy is not one number per sample, or does not depend on x.
        RuntimeError: torch.export with strict=True, which follows no gradient; strict=False does.

    Example:
        >>> import torch, pyebm
        >>> x = torch.randn(4, 2)
        >>> torch.allclose(pyebm.energy_score(lambda x: 0.5 * x.square().sum(1), x), -x)
        True
    """
    check_callable("energy_score", "energy_fn", energy_fn, "a function of x")
    return energy_and_score(
        "energy_score", energy_fn, x, checked_flag("energy_score", "create_graph", create_graph)
    )[1]


def energy_and_score(
    op: str, energy_fn: Callable[[Tensor], Tensor], x: Tensor, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """E(x), of shape (B,), and -grad E(x), from one evaluation of energy_fn."""
    batch = check_samples(op, "x", x)
    if inside():
        return _composable(op, energy_fn, x, batch)
    if is_dynamo_compiling():  # it can trace torch.func.grad, but not torch.autograd.grad
        if is_exporting():  # here it can trace neither
            raise RuntimeError(
                f"{op}: the gradient of energy_fn can't be exported with strict=True; use strict=False"
            )
        energy, score = _composable(op, energy_fn, x if create_graph else x.detach(), batch)
        return energy.detach(), score if create_graph else score.detach()

    def differentiate() -> tuple[Tensor, Tensor]:
        at = x if create_graph and x.requires_grad else _leaf(x)
        energy = energy_fn(at)
        _check_gradient(op, energy, batch)
        # Ones from above are the gradient of the sum, whose own two passes take as long as a
        # sampler's small update.
        above = torch.ones_like(energy)
        (grad,) = torch.autograd.grad(energy, at, above, create_graph=create_graph, allow_unused=True)
        if grad is None:
            raise ValueError(
                f"{op}: energy_fn must return an energy that depends on x, got one that does not"
            )
        energy = energy.detach()
        return energy if energy.dim() == 1 else energy.reshape(
            batch
        ), -grad if create_graph else -grad.detach()

    return in_mode(differentiate, grad=True)


def _composable(
    op: str, energy_fn: Callable[[Tensor], Tensor], x: Tensor, batch: int
) -> tuple[Tensor, Tensor]:
    """The energy and the score by torch.func.grad. Forward mode and other transforms can follow it,
    to the weights of the network too."""

    def total(x: Tensor) -> tuple[Tensor, Tensor]:
        energy = energy_fn(x)
        _check_gradient(op, energy, batch)
        return energy.sum(), energy

    grad, energy = torch.func.grad(total, has_aux=True)(x)
    return energy.reshape(batch), -grad


def _check_gradient(op: str, energy: Tensor, batch: int) -> None:
    check_energy(op, energy, batch)
    if not energy.requires_grad:
        raise ValueError(
            f"{op}: energy_fn must return an energy that depends on x through autograd, got a constant"
        )


def _leaf(x: Tensor) -> Tensor:
    """x as a leaf at which a graph begins; a copy if autograd can't record the operations on x
    itself."""
    return (x.clone() if x.is_inference() else x.detach()).requires_grad_()


def check_energy(op: str, energy: Tensor, batch: int) -> None:
    """Checks that there is one energy per sample."""
    if not isinstance(energy, Tensor):
        raise TypeError(f"{op}: energy_fn must return a tensor, got {type(energy).__name__}")
    if energy.shape not in ((batch,), (batch, 1)):
        raise ValueError(
            f"{op}: energy_fn must return one energy per sample, shape ({batch},), got {tuple(energy.shape)}"
        )
