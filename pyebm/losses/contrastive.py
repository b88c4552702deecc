"""Contrastive divergence: an energy is lowered at the data and raised where a chain on it goes."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import Coefficient, check_samples, checked_number
from .._derivatives import checkable
from .._dtensor import by_samples
from .._options import check_callable, checked_count
from .._streams import CHAINS, beside
from ..energy import energy_score
from ..langevin import affine_step, langevin_step
from ..noise import Noise
from ..samplers import HMC, MALA, Langevin, Sampler
from ..targets import Target
from ._contrast import Contrast, EnergyFn, contrast, contrast_by_kernel, energies_of_both
from .replay import ReplayBuffer

_OP = "ContrastiveDivergence"


@functools.partial(by_samples, samples="x_data")
def contrastive_divergence(
    energy_fn: EnergyFn,
    x_data: Tensor,
    x_model: Tensor,
    *,
    l2: float = 0.0,
    weight: Coefficient | None = None,
    reduction: str = "batchmean",
) -> Tensor:
    """``mean E(x_data) - mean E(x_model) + l2 (mean E(x_data)^2 + mean E(x_model)^2)`` (Hinton
    2002; l2: Du & Mordatch 2019).

    If the samples x_model have the law exp(-E) / Z, its gradient without l2 is that of the data's
    negative log-likelihood. Its value does not measure how well the energy fits; as long as it
    stays near 0, the chains keep up with the energy.

    Args:
        energy_fn: maps (B, ...) to one energy a sample, (B,) or (B, 1); it is called once, with
            both sets of samples, so a sample's energy must not depend on the others.
        x_data: (B, ...), float16, bfloat16, float32 or float64; any strides.
        x_model: samples of the model, (M, ...), of x_data's dtype; they come from a sampler, so
            they are constants.
        l2: >= 0, keeps the energies near 0; without it their constant is free.
        weight: a finite number, or a tensor of one a sample, (B,), if M is B; None is 1.
        reduction: "batchmean", "mean" (the same: there is one energy a sample), or, if M is B,
            "sample", "none" (the same) or "sum", where sample b has the terms of x_data[b] and
            x_model[b].

    Returns:
        The loss, float64 for float64 energies and float32 otherwise.

    Raises:
        TypeError: an energy_fn that is no function; samples that are not dense real floating point.
        ValueError: energies of another shape; samples, l2, weight or reduction that don't fit.

    Example:
        >>> import torch, pyebm
        >>> nn = torch.nn
        >>> net = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 1))
        >>> energy = pyebm.targets.MLPEnergy(net)
        >>> x = torch.randn(64, 2)
        >>> negatives = pyebm.langevin_chain(x, energy, 10, 0.01, pyebm.Noise(0))
        >>> pyebm.contrastive_divergence(energy, x, negatives, l2=0.1).backward()
    """
    op = "contrastive_divergence"
    reduced = Contrast(op, x_data, x_model, l2, weight, reduction)
    fused = contrast_by_kernel(energy_fn, x_data, x_model, reduced)
    return reduced(energies_of_both(op, energy_fn, x_data, x_model)) if fused is None else fused


class ContrastiveDivergence(nn.Module):
    """The whole step of training by contrastive divergence: chains are moved, and the loss compares
    their ends with the data.

    - CD-k (Hinton 2002): without a buffer; chains begin at the data.
    - Persistent (PCD, Tieleman 2008): with a :class:`ReplayBuffer` whose chains go on from step to
      step, ``reinit=0``.
    - IGEBM (Du & Mordatch 2019): a buffer with ``reinit=0.05``, ``l2``, and ``samplers.Langevin``
      with noise_scale (noise that is decoupled from the step size), clamp and score_clip. JEM
      (Grathwohl et al. 2020) is the same without l2.
    - A temperature other than 1, MALA and HMC: by the sampler.
    - The last step's gradient (Du et al. 2021): ``kl=1.0`` follows the last step's dependence on
      the parameters, and adds ``kl mean E(x_model)`` with the energy's own parameters held. The
      entropy of that paper is not added.

    Args:
        energy: maps (B, ...) to (B,); :class:`pyebm.targets.MLPEnergy`, whose chains are one
            launch, or any function or module.
        sampler: one of :mod:`pyebm.samplers`, around the same energy.
        n_steps: k >= 1, the steps of a chain in each training step.
        buffer: where the chains live; None for CD-k.
        l2: as in :func:`contrastive_divergence`.
        kl: >= 0; not 0 only for ``samplers.Langevin`` with a step size that is no schedule.

    Called as ``loss = cd(x, noise.at(step=k))`` with the number k of the training step: the chains'
    steps draw from the noise's steps ``k n_steps, ..., (k + 1) n_steps - 1``, on a stream of their
    own, so that the same Noise may perturb the data. A rank's part of a batch has ``noise.shard``.

    Attributes:
        history: for each call, a number under each name (on a GPU a tensor, so that nothing waits):
            ``energy_data`` and ``energy_model``, means; ``gap``, their difference, data less model;
            ``moved``, the root mean square of the distance that an element moved in the chain;
            ``diverged``, how many chains are not finite; with MALA and HMC ``acceptance``; with a
            buffer ``fresh``, the share of chains that began anew; ``gradient_norm``, if
            :meth:`gradient_norm` is called.

    Raises:
        TypeError, ValueError: a sampler, buffer or number that doesn't fit; from a call, what the
            sampler and the loss raise.

    Warns (RuntimeWarning), on the CPU: chains that are not finite at their end; the loss then isn't
    either.

    Example:
        >>> import torch, pyebm
        >>> nn = torch.nn
        >>> net = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 1))
        >>> energy = pyebm.targets.MLPEnergy(net, quadratic=0.1)
        >>> cd = pyebm.losses.ContrastiveDivergence(
        ...     energy,
        ...     pyebm.samplers.Langevin(energy, 0.05),
        ...     n_steps=10,
        ...     buffer=pyebm.ReplayBuffer(1000, (2,)),
        ... )
        >>> optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
        >>> for k in range(3):
        ...     loss = cd(torch.randn(64, 2), pyebm.Noise(0).at(step=k))
        ...     optimiser.zero_grad()
        ...     loss.backward()
        ...     optimiser.step()
        >>> len(cd.history["gap"])
        3
    """

    energy: EnergyFn | Target
    sampler: Sampler
    buffer: ReplayBuffer | None
    n_steps: int
    l2: float
    kl: float

    def __init__(
        self,
        energy: EnergyFn,
        sampler: Sampler,
        n_steps: int,
        buffer: ReplayBuffer | None = None,
        *,
        l2: float = 0.0,
        kl: float = 0.0,
    ) -> None:
        super().__init__()
        check_callable(_OP, "energy", energy, "a function of x")
        if isinstance(energy, Target) and not energy.has_energy:
            raise TypeError(f"{_OP}: energy must be one, got {type(energy).__name__}, a score alone")
        if not isinstance(sampler, Sampler):
            raise TypeError(f"{_OP}: sampler must be one of pyebm.samplers, got {type(sampler).__name__}")
        if sampler.length is not None:
            raise ValueError(
                f"{_OP}: sampler must take any number of steps, got {type(sampler).__name__}, which has a"
                " schedule"
            )
        if buffer is not None and not isinstance(buffer, ReplayBuffer):
            raise TypeError(f"{_OP}: buffer must be a ReplayBuffer or None, got {type(buffer).__name__}")
        self.energy, self.sampler, self.buffer = energy, sampler, buffer
        self.n_steps = checked_count(_OP, "n_steps", n_steps, 1)
        self.l2, self.kl = checked_number(_OP, "l2", l2, 0.0), checked_number(_OP, "kl", kl, 0.0)
        if self.kl and not (
            isinstance(sampler, Langevin) and isinstance(sampler.step_size, (int, float, Tensor))
        ):
            raise ValueError(
                f"{_OP}: kl must be 0 but for samplers.Langevin with a step_size that is no schedule, got"
                f" {kl}"
            )
        self.history: dict[str, list[Any]] = {}

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        batch = check_samples(_OP, "x", x)
        if not isinstance(noise, Noise):
            raise TypeError(f"{_OP}: noise must be a Noise, got {type(noise).__name__}")
        if (noise.step + 1) * self.n_steps > 2**32:
            raise ValueError(
                f"{_OP}: noise.step and n_steps must stay below 2**32 together, got {noise.step} and"
                f" {self.n_steps}"
            )
        if self.buffer is not None and x.shape[1:] != self.buffer.states.shape[1:]:
            must = f"samples of the buffer's shape, {tuple(self.buffer.states.shape[1:])}"
            raise ValueError(f"{_OP}: x must have {must}, got {tuple(x.shape)}")
        seen: dict[str, Any] = {}
        if self.buffer is None:
            begin, named = x.detach(), noise
        else:
            drawn = self.buffer.draw(batch, noise)
            begin, named = drawn.x, drawn.noise
            seen["fresh"] = _number(drawn.fresh.double().mean())
        model, held = self._moved(begin, beside(named, CHAINS).at(step=noise.step * self.n_steps), seen)
        if self.buffer is not None:
            self.buffer.put(drawn, model)
        loss = self._loss(x, model.to(x.dtype), seen)
        if held is not None:
            loss = loss + self.kl * held
        self._report(begin, model, seen)
        return loss

    def gradient_norm(self) -> Any:
        """The norm of all gradients that the last backward pass left in the energy's parameters,
        taken together; it goes into the history too. Call it before the optimiser's step.

        Raises TypeError for an energy that is no module.
        """
        if not isinstance(self.energy, nn.Module):
            raise TypeError(
                f"{_OP}.gradient_norm: energy must be a torch.nn.Module, got {type(self.energy).__name__}"
            )
        gradients = [p.grad for p in self.energy.parameters() if p.grad is not None]
        norm = _number(
            torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros((), device="cpu")
        )
        self.history.setdefault("gradient_norm", []).append(norm)
        return norm

    def _moved(self, x: Tensor, noise: Noise, seen: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """The chains' ends and, with kl, the term of the last step: its value is 0, but it has a
        gradient."""
        if self.kl:
            sampler: Any = self.sampler
            x = sampler(x, self.n_steps - 1, noise=noise)
            return self._last_step(sampler, x, noise.at(step=noise.step + self.n_steps - 1))
        if isinstance(self.sampler, (MALA, HMC)):
            run = self.sampler(x, self.n_steps, noise=noise, thin=self.n_steps)
            seen["acceptance"] = _number(run.info["acceptance"].mean())
            return run.x, None
        return self.sampler(x, self.n_steps, noise=noise), None

    def _last_step(self, sampler: Langevin, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        options = sampler.options
        score = energy_score(self.energy, x, create_graph=True)
        if options.score_clip is not None:
            score = score.clamp(-options.score_clip, options.score_clip)
        step: dict[str, Any] = {"clamp": options.clamp, "mask": options.mask, "backend": options.backend}
        eta: Any = sampler.step_size
        if sampler.noise_scale is None:
            end: Any = langevin_step(x, score, eta, noise, temperature=options.temperature, **step)
        else:
            scale: Any = sampler.noise_scale
            end = affine_step(x, score, 1.0, eta, scale, noise, **step)
        model = end.detach()
        uphill = -energy_score(self.energy, model)
        batch = max(x.shape[0], 1)
        return model, (uphill * (end - model)).sum() / batch

    def _loss(self, x: Tensor, model: Tensor, seen: dict[str, Any]) -> Tensor:
        loss, of_data, of_model = contrast(_OP, self.energy, x, model, self.l2)
        seen["energy_data"], seen["energy_model"] = _number(of_data), _number(of_model)
        seen["gap"] = seen["energy_data"] - seen["energy_model"]
        return loss

    def _report(self, begin: Tensor, model: Tensor, seen: dict[str, Any]) -> None:
        moved = seen["moved"] = _number((model - begin).square().mean().sqrt())
        lost: Any = 0
        if isinstance(moved, Tensor) or not math.isfinite(moved):  # else all chains are finite
            lost = _number(
                (~model.isfinite()).reshape(model.shape[0], math.prod(model.shape[1:])).any(1).sum()
            )
        seen["diverged"] = lost
        for name, value in seen.items():
            self.history.setdefault(name, []).append(value)
        if not isinstance(lost, Tensor) and lost:
            warnings.warn(
                f"{_OP}: {int(lost)} of {model.shape[0]} chains are not finite after {self.n_steps} steps:"
                " smaller steps, a clamp, or an energy that grows far from the data (quadratic=) keep them",
                RuntimeWarning,
                stacklevel=3,
            )

    def extra_repr(self) -> str:
        return f"sampler={self.sampler!r}, n_steps={self.n_steps}, l2={self.l2:g}, kl={self.kl:g}"


def _number(value: Tensor) -> Any:
    """A value for the history: a number, or the tensor itself where the host would have to wait for
    the number or can't read it."""
    value = value.detach()
    return value.item() if checkable(value) else value
