"""Two of diffusers' schedulers, by their names, whose steps are fused and whose noise has a name.

``pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)`` is all it takes; a scheduler
is saved in diffusers' own format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..._options import checked_int, shown
from ...noise import Noise
from .._draws import UNUSED, Normals, noise_norms, predicted_step, step, step_and_mean
from .._fits import broadcast, checked_scale, norms, widened
from ._named import Generator, Named, check_step

from diffusers import schedulers as theirs  # isort: skip
from diffusers.schedulers.scheduling_ddpm import DDPMSchedulerOutput  # isort: skip
from diffusers.schedulers.scheduling_sde_ve import SdeVeOutput  # isort: skip
from diffusers.schedulers.scheduling_utils import SchedulerOutput  # isort: skip

# A pipeline that an older pyebm saved names this module: diffusers looks here for the base, which
# says how its scheduler is loaded.
from diffusers import SchedulerMixin  # noqa: F401  # isort: skip


class DDPMScheduler(Named, theirs.DDPMScheduler):
    """diffusers' DDPMScheduler (Ho et al. 2020) with a ``step`` of one fused pass on the CPU,
    which makes x0 and the draw from the posterior; on a GPU, and with thresholding, they are two.

    The coefficients come from a table that is made in float64 once per schedule, and again when
    anything changes that it was made of, so a step on a GPU waits for nothing. Steps with a learned
    variance run diffusers' own code, and take no Noise.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.diffusers import DDPMScheduler
        >>> scheduler = DDPMScheduler(num_train_timesteps=100)
        >>> scheduler.noise = pyebm.Noise(0)
        >>> scheduler.set_timesteps(10)
        >>> x = torch.randn(4, 3, 8, 8)
        >>> for t in scheduler.timesteps:
        ...     x = scheduler.step(torch.zeros_like(x), t, x).prev_sample
    """

    _original = "diffusers.DDPMScheduler"
    _remade = "_tables", "_made_of"
    _tables: dict[torch.device, Tensor] | None = None
    _made_of: tuple[Any, ...] = ()

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generator = None,
        return_dict: bool = True,
    ) -> Any:
        """``x_{t-1}`` from ``x_t``; arguments and results as in diffusers, but the generator may
        also be a Noise or a tensor."""
        if not self._has_fixed_variance():
            named = generator is None and isinstance(self.noise, Noise)
            if named or isinstance(generator, (Noise, Tensor)):
                raise TypeError(
                    f"step: generator must be a torch.Generator where the variance is {self.variance_type!r}"
                )
            return super().step(model_output, timestep, sample, generator, return_dict)
        check_step("step", model_output, sample, generator)
        like, sample = model_output, widened(sample, model_output)
        shape = broadcast("step", "model_output", model_output, sample)
        if not model_output.shape == shape == sample.shape:
            sample, model_output = sample.expand(shape), model_output.expand(shape)
        a, b, of_x0, of_sample, std = self._coefficients(timestep, sample.device)
        limit = (
            self.config.clip_sample_range
            if self.config.clip_sample and not self.config.thresholding
            else None
        )
        clamp = None if limit is None else (-limit, limit)
        if generator is not None and not isinstance(generator, (Noise, Tensor)) and not timestep > 0:
            normals: Normals = UNUSED  # diffusers draws nothing from the generator at the last step
        else:
            normals = self._normals(generator, like)
        if isinstance(normals, Noise) and like.shape != shape:  # the normals are broadcast too
            normals = normals.randn(like.shape, device=like.device)
        if self.config.prediction_type != "sample" and not self.config.thresholding:
            x0, previous = predicted_step(
                sample, model_output, (a, b), of_sample, of_x0, std, normals, clamp=clamp
            )
        else:
            if self.config.prediction_type != "sample":
                x0 = step(sample, model_output, a, b, 0.0, UNUSED)
            else:
                x0 = model_output if limit is None else model_output.clamp(-limit, limit)
            if self.config.thresholding:
                x0 = self._threshold_sample(x0)
            previous = step(sample, x0, of_sample, of_x0, std, normals)
        if not return_dict:
            return previous, x0
        return DDPMSchedulerOutput(prev_sample=previous, pred_original_sample=x0)

    def _has_fixed_variance(self) -> bool:
        """Whether a table can hold the std. diffusers reads the kind from the configuration, and
        whether it is a logarithm from its own attribute."""
        own, said = self.variance_type, self.config.variance_type
        return own in _STD and said in _STD and (own == said or "fixed_small_log" not in (own, said))

    def _coefficients(self, timestep: int | Tensor, device: torch.device) -> list[Any]:
        made_of = (
            self.alphas_cumprod,
            _version(self.alphas_cumprod),
            self.timesteps,
            _version(self.timesteps),
            self.custom_timesteps,
            self.num_inference_steps,
            self.config.variance_type,
            self.config.prediction_type,
        )
        if self._tables is None or not _are_same(self._made_of, made_of):
            self._tables, self._made_of = {torch.device("cpu"): self._table()}, made_of
        if device not in self._tables:
            self._tables[device] = self._tables[torch.device("cpu")].to(device)
        table = self._tables[device]
        if device.type == "cpu" or not isinstance(timestep, Tensor):
            at = checked_int("step", "timestep", timestep)
            row = table[at] if 0 <= at < len(table) else None
            if row is None or (device.type == "cpu" and row.isnan().any()):
                raise ValueError(f"step: timestep must be one of scheduler.timesteps, got {shown(at)}")
            return row.tolist() if device.type == "cpu" else list(row.unbind())
        return list(table.index_select(0, timestep.to(device).reshape(1))[0].unbind())

    def _table(self) -> Tensor:
        """The coefficients of each timestep: those of x0 = a x + b output, those of
        mean = of_x0 x0 + of_sample x (Ho et al. 2020, eq. 7), and the std."""
        abar = self.alphas_cumprod.to("cpu", torch.float64)
        times = torch.arange(len(abar), device="cpu")
        previous = times - 1
        if self.custom_timesteps or self.num_inference_steps:
            schedule = self.timesteps.cpu()
            previous = torch.full_like(times, -2)  # -2 marks times that are not in the schedule
            previous[schedule] = torch.cat([schedule[1:], torch.tensor([-1], device="cpu")])
        abar_previous = torch.where(previous >= 0, abar[previous.clamp(min=0)], 1.0)
        alpha = abar / abar_previous
        beta = 1 - alpha
        root, noise = abar.sqrt(), (1 - abar).sqrt()
        if self.config.prediction_type == "epsilon":
            # At zero terminal SNR x0 is infinite, and clipped, by the sign of x - output. A power
            # of two in place of 1/0 keeps that sign, since it rounds nothing.
            inverse = torch.where(root > 0, 1 / root, 2.0**100)
            a, b = inverse, -noise * inverse
        elif self.config.prediction_type == "v_prediction":
            a, b = root, -noise
        elif self.config.prediction_type == "sample":
            a, b = torch.zeros_like(root), torch.ones_like(root)
        else:
            raise ValueError(
                "step: prediction_type must be epsilon, sample or v_prediction, got"
                f" {self.config.prediction_type!r}"
            )
        small = ((1 - abar_previous) / (1 - abar) * beta).clamp(min=1e-20)
        std = torch.where(times > 0, _STD[self.config.variance_type](small, beta), 0.0)
        of_x0, of_sample = (
            abar_previous.sqrt() * beta / (1 - abar),
            alpha.sqrt() * (1 - abar_previous) / (1 - abar),
        )
        table = torch.stack([a, b, of_x0, of_sample, std], dim=1)
        table[previous == -2] = torch.nan
        return table


def _version(table: Tensor) -> int:
    """A number that changes with every write, unless the tensor was made in inference mode."""
    return 0 if table.is_inference() else table._version


def _are_same(old: tuple[Any, ...], new: tuple[Any, ...]) -> bool:
    return len(old) == len(new) and all(
        a is b or (not isinstance(a, Tensor) and a == b) for a, b in zip(old, new, strict=True)
    )


_STD: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "fixed_small": lambda small, _: small.sqrt(),
    "fixed_small_log": lambda small, _: small.sqrt(),
    "fixed_large": lambda _, beta: beta.sqrt(),
}


class ScoreSdeVeScheduler(Named, theirs.ScoreSdeVeScheduler):
    """diffusers' ScoreSdeVeScheduler (Song et al. 2021, VE) whose predictor and corrector are fused
    steps.

    Results have the dtype of the sample and the model_output together, whatever the generator's:
    half precision stays half precision, where diffusers' come back in float32. The corrector's step
    size is the published one, with the batch's mean norms. The norm of the noise is summed without
    storing the noise.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.diffusers import ScoreSdeVeScheduler
        >>> scheduler = ScoreSdeVeScheduler(num_train_timesteps=100, sigma_max=10.0)
        >>> scheduler.noise = pyebm.Noise(0)
        >>> scheduler.set_timesteps(10)
        >>> scheduler.set_sigmas(10)
        >>> x = 10 * torch.randn(4, 3, 8, 8)
        >>> for t in scheduler.timesteps:
        ...     x = scheduler.step_correct(-x, x).prev_sample
        ...     x, mean = scheduler.step_pred(-x / 100, t, x, return_dict=False)
    """

    _original = "diffusers.ScoreSdeVeScheduler"
    discrete_sigmas: Tensor

    def step_pred(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generator = None,
        return_dict: bool = True,
    ) -> Any:
        """The reverse-diffusion predictor, ``x + G^2 s + G z``; arguments and results as in
        diffusers."""
        self._check()
        check_step("step_pred", model_output, sample, generator)
        checked_scale("step_pred", "timestep", timestep)
        if isinstance(timestep, Tensor) and (
            timestep.is_meta or timestep.numel() not in (1, sample.shape[0])
        ):
            raise ValueError(
                f"step_pred: timestep must be one number, or one a sample, got {shown(timestep)}"
            )
        sigmas: Tensor = self.discrete_sigmas.to(sample.device)
        self.discrete_sigmas = sigmas
        time = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device).reshape(-1)
        if time.is_cpu and not bool((time <= 1).all()):
            raise ValueError(f"step_pred: timestep must be in [0, 1], got {time.max().item():g}")
        index = (time * (len(self.timesteps) - 1)).long()
        sigma, before = sigmas[index].double(), sigmas[index - 1].double()
        g2 = sigma**2 - torch.where(index == 0, 0.0, before) ** 2
        x, mean = step_and_mean(sample, model_output, 1.0, g2, g2.sqrt(), self._normals(generator, sample))
        return SdeVeOutput(prev_sample=x, prev_sample_mean=mean) if return_dict else (x, mean)

    def step_correct(
        self, model_output: Tensor, sample: Tensor, generator: Generator = None, return_dict: bool = True
    ) -> Any:
        """The Langevin corrector, ``x + eps s + sqrt(2 eps) z``, eps = 2 (snr |z| / |s|)^2;
        arguments and results as in diffusers."""
        self._check()
        check_step("step_correct", model_output, sample, generator)
        # diffusers draws the corrector's normals in the default dtype, whatever the sample's.
        normals = self._normals(generator, sample, dtype=torch.get_default_dtype())
        eps = 2 * (self.config.snr * noise_norms(normals, sample).mean() / norms(model_output).mean()) ** 2
        x = step(sample, model_output, 1.0, eps, (2 * eps) ** 0.5, normals)
        return SchedulerOutput(prev_sample=x) if return_dict else (x,)

    def _check(self) -> None:
        if self.timesteps is None:
            raise ValueError(
                "`self.timesteps` is not set, you need to run 'set_timesteps' after creating the scheduler"
            )
