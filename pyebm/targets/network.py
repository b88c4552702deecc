"""Energies and scores that are learned: networks whose layers the kernels know, so that a chain on
one is a single launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import _composed, _ops
from .._checks import check_like
from .._derivatives import BySample, exactly, launched, wanted
from .._dtensor import by_samples
from ..energy import energy_score
from ._gradients import exact
from ._learned import Embedding, Learned
from ._reading import Reading

_AT_ONCE = 2**30  # samples x dimensions x parameters in a call for the Laplacian: about a tenth of a second
_CHUNK = 2**22  # a Laplacian's products hold at most so many elements of a layer at once


def _trace(
    kernel: Callable[..., None], x: Tensor, layout: Any, params: Tensor, biases: Tensor | None
) -> Tensor:
    """The trace of the Hessian, on the CPU in calls of some samples each, so that Ctrl-C is heard
    between them."""
    out = x.new_empty(x.shape[0])
    some = max(int(_AT_ONCE / max(x.shape[1] * params.numel(), 1)) if x.is_cpu else x.shape[0], 1)
    if biases is None or biases.shape[0] == 1 or x.shape[0] <= some:
        for part, of in zip(out.split(some), x.split(some), strict=True):
            kernel(part, of, layout, params, biases)
    else:
        for part, of, own in zip(out.split(some), x.split(some), biases.split(some), strict=True):
            kernel(part, of, layout, params, own)
    return out


class MLPEnergy(Learned):
    """``energy(x) = net(x) + quadratic |x|^2``, with the module's own parameters, which an
    optimiser can train.

    The module is an ``nn.Sequential`` of Linear layers and activations that ends in one output;
    docs/learned.md says what may be in it. Its parameters are read in every call, so nothing that
    writes to them is missed.

    Args:
        net: maps (B, D), or (B, D + condition), to (B, 1) or (B,).
        quadratic: the coefficient of a term that makes the density fall off where the network does
            not: 1 / (2 s^2) for a normal of standard deviation s. Any finite number.
        condition: how many of the net's last inputs are a condition c: see :meth:`given`.
        embedding: a function of c that gives those inputs, (C,) or (B, C), for example the features
            of a noise level.

    Raises:
        TypeError: a net that is no module, or has a layer that the kernels don't know; the error
            names the layer, and a way to run it.
        ValueError: layers whose widths don't fit, or beyond what the kernels take; a number that is
            not finite.

    Example:
        >>> import torch, pyebm
        >>> from torch import nn
        >>> net = nn.Sequential(
        ...     nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        ... )
        >>> energy = pyebm.targets.MLPEnergy(net, quadratic=0.5)
        >>> x = pyebm.langevin_chain(torch.zeros(256, 2), energy, 60, 0.01, pyebm.Noise(0))
        >>> energy(x).mean().backward()  # the network's gradient, x being a constant
        >>> net[0].weight.grad.shape, x.requires_grad
        (torch.Size([64, 2]), False)
    """

    width: int = 1

    def __init__(
        self,
        net: nn.Module,
        quadratic: float = 0.0,
        *,
        condition: int = 0,
        embedding: Embedding | None = None,
    ) -> None:
        super().__init__(net, quadratic, condition, embedding)

    def energy(self, x: Tensor, c: Any = None) -> Tensor:
        """The energy of each sample, (B,), float32 for half precisions, else x's dtype;
        differentiable in x, c and the parameters.

        Args:
            x: (B, ...), of D elements a sample; any strides.
            c: the condition, for a network with one: ``energy(x, c)`` is ``given(c).energy(x)``.

        Raises TypeError and ValueError for an x or c that does not fit, and for a network that the
        kernels no longer take.
        """
        return self._evaluate("MLPEnergy.energy", x, c, None, energy=True)

    @by_samples
    def score(self, x: Tensor, c: Any = None, *, backend: str | None = None) -> Tensor:
        """``-grad energy(x)``, x's shape and dtype: by the kernel, without autograd;
        differentiable, as the energy is.

        x, c: as in :meth:`energy`. backend: as in :meth:`Target.score`. Raises as they do.
        """
        return self._evaluate("MLPEnergy.score", x, c, backend, energy=False)

    def forward(self, x: Tensor, c: Any = None) -> Tensor:
        return self.energy(x, c)

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The Hessian of the energy times v, for each sample; x's shape and dtype, exact, and
        differentiable as the energy is.

        Raises TypeError and ValueError for an x that does not fit, or a v that is not like it.

        Example:
            >>> import torch, pyebm
            >>> linear = torch.nn.Linear(3, 1)
            >>> energy = pyebm.targets.MLPEnergy(linear, quadratic=0.5)  # its Hessian is 1
            >>> v = torch.randn(4, 3)
            >>> torch.allclose(energy.hvp(torch.randn(4, 3), v), v)
            True
        """
        reading = self._fitting("MLPEnergy.hvp", x, self.c)
        v = check_like("MLPEnergy.hvp", "v", v, "x", x)
        work, along = self._flat(x), self._flat(v)
        with exact(x):
            made = self._by_kernel(reading, work, along, lambda: self._hessian_times(work, along))
        return made.reshape(x.shape).to(x.dtype)

    def laplacian(self, x: Tensor) -> Tensor:
        """The trace of the energy's Hessian, (B,), exact: the sum over D Hessian-vector products,
        in one launch. The dtype is the energy's.

        Raises TypeError and ValueError for an x that does not fit.

        Example:
            >>> import torch, pyebm
            >>> energy = pyebm.targets.MLPEnergy(torch.nn.Linear(3, 1), quadratic=0.5)
            >>> energy.laplacian(torch.randn(2, 3))
            tensor([3., 3.])
        """
        reading = self._fitting("MLPEnergy.laplacian", x, self.c)
        work = self._flat(x)
        widest = max(layer.weight.shape[0] for layer in reading.layers)
        chunk = max(_CHUNK // max(work.shape[0] * max(widest, self.dim), 1), 1)

        def second(direction: Tensor) -> Tensor:
            return (self._hessian_times(work, direction.expand_as(work)) * direction).sum(1)

        def composed() -> Tensor:
            basis = torch.eye(self.dim, dtype=work.dtype, device=work.device)
            traced: Tensor = torch.vmap(second, chunk_size=min(chunk, self.dim))(basis).sum(0)
            return traced

        with exact(x):
            return self._by_kernel(reading, work, None, composed)

    def _by_kernel(
        self, reading: Reading, work: Tensor, v: Tensor | None, composed: Callable[[], Tensor]
    ) -> Tensor:
        """The Hessian times v or, without one, its trace: the kernel's value, with the derivatives
        of the composed operations."""
        if not _ops.has("network_hvp", work) or type(work) is not Tensor:
            return composed()
        kernels = _ops.kernels(None, work)
        numbers = self._numbers_at("MLPEnergy", work, self.c, reading)

        def launch(x: Tensor, v: Tensor | None, params: Tensor, biases: Tensor | None) -> Tensor:
            if v is None:
                return _trace(kernels["network_laplacian"], x, numbers.which, params, biases)
            out = torch.empty_like(x)
            kernels["network_hvp"](out, x, v, numbers.which, params, biases)
            return out

        given = (work, v, numbers.params, numbers.biases)
        if not wanted(*given):
            return launch(*given)
        by_sample = numbers.biases is not None and numbers.biases.shape[0] > 1
        value = BySample(launch, shared=(2,) if by_sample else (2, 3))
        return exactly(lambda: launched(value, *given), composed())

    def _flat(self, x: Tensor) -> Tensor:
        return _composed.work_of(x).reshape(x.shape[0], self.dim)

    def _hessian_times(self, work: Tensor, v: Tensor) -> Tensor:
        gradient = torch.func.grad(lambda at: self._energy(at, self.c).sum())
        product: Tensor = torch.func.jvp(gradient, (work,), (v,))[1]
        return product

    def _energy(self, work: Tensor, c: Tensor | None) -> Tensor:
        return self._run(work, c).reshape(work.shape[0]) + self.quadratic.to(work.dtype) * work.square().sum(
            1
        )

    def _score(self, work: Tensor, c: Tensor | None) -> Tensor:
        return energy_score(lambda at: self._energy(at, c), work, create_graph=torch.is_grad_enabled())


class MLPScore(Learned):
    """``score(x) = net(x)``: a network of D outputs in the place of grad log p, with the module's
    own parameters.

    It has no energy, so :class:`pyebm.samplers.MALA` and HMC, whose test needs one, refuse it.

    Args:
        net: maps (B, D), or (B, D + condition), to (B, D); otherwise as :class:`MLPEnergy`'s.
        condition, embedding: as in :class:`MLPEnergy`. AnnealedLangevin and PredictorCorrector pass
            sigma or t by themselves.

    Raises as :class:`MLPEnergy`.

    Example:
        >>> import torch, pyebm
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(2 + 1, 64), nn.Softplus(), nn.Linear(64, 2))
        >>> score = pyebm.targets.MLPScore(net, condition=1)
        >>> sampler = pyebm.samplers.AnnealedLangevin(
        ...     score, sigmas=[1.0, 0.1], step_lr=0.001, n_steps_each=10
        ... )
        >>> sampler(torch.randn(5, 2), noise=0).shape
        torch.Size([5, 2])
        >>> x = pyebm.langevin_chain(torch.randn(5, 2), score.given(0.1), 10, 0.001, pyebm.Noise(0))
    """

    has_energy = False

    def __init__(self, net: nn.Module, *, condition: int = 0, embedding: Embedding | None = None) -> None:
        super().__init__(net, 0.0, condition, embedding)

    @by_samples
    def score(self, x: Tensor, c: Any = None, *, backend: str | None = None) -> Tensor:
        """``net(x)``, x's shape and dtype; in half precisions computed in float32. Differentiable
        in x, c and the parameters.

        Args:
            x: (B, ...), of D elements a sample; any strides.
            c: the condition, for a network with one: ``score(x, c)`` is ``given(c).score(x)``.
            backend: as in :meth:`Target.score`.

        Raises TypeError and ValueError for an x or c that does not fit, and for a network that the
        kernels no longer take.
        """
        return self._evaluate("MLPScore.score", x, c, backend, energy=False)

    def forward(self, x: Tensor, c: Any = None) -> Tensor:
        return self.score(x, c)

    def energy(self, x: Tensor) -> Tensor:
        """Raises NotImplementedError: a score's energy is not known."""
        raise NotImplementedError(
            "MLPScore: a network of scores has no energy; MLPEnergy has one, and its score"
        )

    def _score(self, work: Tensor, c: Tensor | None) -> Tensor:
        return self._run(work, c)
