"""diffusers' schedulers over alphas_cumprod that skip steps, with fused steps and named noise: DDIM
and the consistency models' LCM and TCD."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..._checks import checked_number
from ..._options import checked_flag, checked_int
from ...noise import Noise
from .._draws import Normals, step
from ._fused import limit_of, mixed, of_alphas, together, with_noise
from ._named import Generator, Named, check_step

from diffusers import schedulers as theirs  # isort: skip
from diffusers.schedulers import scheduling_ddim as ddim  # isort: skip
from diffusers.schedulers import scheduling_lcm as lcm  # isort: skip
from diffusers.schedulers import scheduling_tcd as tcd  # isort: skip


class DDIMScheduler(Named, theirs.DDIMScheduler):
    """diffusers' DDIMScheduler (Song et al. 2021, DDIM) with a ``step`` of two fused passes (three
    where x0 is clipped and the network does not predict the noise); with ``eta`` its noise has a
    name.

    Where the schedule does not say x0 (at zero terminal SNR, with a network that predicts the
    noise) the step runs diffusers' own code.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.diffusers import DDIMScheduler
        >>> scheduler = DDIMScheduler(num_train_timesteps=100)
        >>> scheduler.noise = pyebm.Noise(0)
        >>> scheduler.set_timesteps(10)
        >>> x = torch.randn(4, 3, 8, 8)
        >>> for t in scheduler.timesteps:
        ...     x = scheduler.step(torch.zeros_like(x), t, x, eta=0.5).prev_sample
    """

    _original = "diffusers.DDIMScheduler"

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: Generator = None,
        variance_noise: Normals | None = None,
        return_dict: bool = True,
    ) -> Any:
        """The next sample; arguments and results as in diffusers, but generator and variance_noise
        may also be a Noise or a tensor."""
        check_step("step", model_output, sample, generator)
        eta = checked_number("step", "eta", eta, 0.0)
        corrected = checked_flag("step", "use_clipped_model_output", use_clipped_model_output)
        if variance_noise is not None and generator is not None and eta > 0:
            raise ValueError("step: generator must be None where variance_noise is given")
        if variance_noise is not None and not isinstance(variance_noise, (Noise, Tensor)):
            raise TypeError(
                f"step: variance_noise must be a Noise or a tensor, got {type(variance_noise).__name__}"
            )
        if self.num_inference_steps is None:
            raise ValueError("step: timestep must come from set_timesteps, which was not called")
        at = _checked_timestep(self, timestep)
        before = at - self.config.num_train_timesteps // self.num_inference_steps
        abar = float(self.alphas_cumprod[at])
        abar_before = float(self.alphas_cumprod[before] if before >= 0 else self.final_alpha_cumprod)
        kind = self.config.prediction_type
        of_x0, of_epsilon = of_alphas(kind, abar)
        variance = (1 - abar_before) / (1 - abar) * (1 - abar / abar_before)
        std = eta * math.sqrt(max(variance, 0.0))
        direction = math.sqrt(max(1 - abar_before - std**2, 0.0))
        if not all(map(math.isfinite, (*of_x0, *of_epsilon))):
            return self._theirs(
                model_output, at, sample, eta, corrected, generator, variance_noise, return_dict
            )
        x, output = together(sample, model_output)
        limit = limit_of(self)
        x0 = mixed(x, of_x0[0], output, of_x0[1], limit)
        if self.config.thresholding:
            x0 = self._threshold_sample(x0)
        normals: Any = variance_noise
        if eta > 0 and normals is None:
            normals = self._normals(generator, output)
        if limit is None and not self.config.thresholding:
            # x0 and epsilon are mixtures of x and the output, and so is the previous sample.
            root = math.sqrt(abar_before)
            a, b = (root * one + direction * other for one, other in zip(of_x0, of_epsilon, strict=True))
            previous = _finished(x, output, a, b, std, normals)
        else:
            if corrected:  # epsilon of the clipped x0
                noise = math.sqrt(1 - abar)
                epsilon = mixed(x, 1 / noise, x0, -math.sqrt(abar) / noise)
            else:
                epsilon = (
                    output if of_epsilon == (0.0, 1.0) else mixed(x, of_epsilon[0], output, of_epsilon[1])
                )
            previous = _finished(x0, epsilon, math.sqrt(abar_before), direction, std, normals)
        if not return_dict:
            return previous, x0
        return ddim.DDIMSchedulerOutput(prev_sample=previous, pred_original_sample=x0)

    def _theirs(
        self,
        output: Tensor,
        at: int,
        sample: Tensor,
        eta: float,
        corrected: bool,
        generator: Generator,
        normals: Normals | None,
        return_dict: bool,
    ) -> Any:
        if eta > 0 and normals is None:
            normals = self._normals(generator, output)
        if isinstance(normals, Noise):
            normals = normals.randn(output.shape, dtype=output.dtype, device=output.device)
        return super().step(output, at, sample, eta, corrected, None, normals, return_dict)


class LCMScheduler(Named, theirs.LCMScheduler):
    """diffusers' LCMScheduler (Luo et al. 2023) with a ``step`` of two fused passes (three where x0
    is clipped), whose noise has a name.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.diffusers import LCMScheduler
        >>> scheduler = LCMScheduler()
        >>> scheduler.noise = pyebm.Noise(0)
        >>> scheduler.set_timesteps(4)
        >>> x = torch.randn(4, 3, 8, 8)
        >>> for t in scheduler.timesteps:
        ...     x = scheduler.step(torch.zeros_like(x), t, x).prev_sample
    """

    _original = "diffusers.LCMScheduler"

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Generator = None,
        return_dict: bool = True,
    ) -> Any:
        """The next sample; arguments and results as in diffusers, but the generator may also be a
        Noise or a tensor."""
        check_step("step", model_output, sample, generator)
        at, before = _begun(self, timestep)
        abar = float(self.alphas_cumprod[at])
        before = at if before is None else before
        abar_before = float(self.alphas_cumprod[before] if before >= 0 else self.final_alpha_cumprod)
        c_skip, c_out = (float(one) for one in self.get_scalings_for_boundary_condition_discrete(at))
        (a, b), _ = of_alphas(self.config.prediction_type, abar)
        x, output = together(sample, model_output)
        limit = limit_of(self)
        if limit is None and not self.config.thresholding:
            denoised = mixed(x, c_out * a + c_skip, output, c_out * b)
        else:
            x0 = mixed(x, a, output, b, limit)
            denoised = mixed(x, c_skip, self._threshold_sample(x0) if self.config.thresholding else x0, c_out)
        previous = denoised
        if self.step_index != self.num_inference_steps - 1:
            normals = self._normals(generator, output, denoised.dtype)
            previous = with_noise(denoised, math.sqrt(abar_before), math.sqrt(1 - abar_before), normals)
        self._step_index += 1
        if not return_dict:
            return previous, denoised
        return lcm.LCMSchedulerOutput(prev_sample=previous, denoised=denoised)


class TCDScheduler(Named, theirs.TCDScheduler):
    """diffusers' TCDScheduler (Zheng et al. 2024) with a ``step`` of two fused passes, whose noise
    has a name.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.diffusers import TCDScheduler
        >>> scheduler = TCDScheduler()
        >>> scheduler.noise = pyebm.Noise(0)
        >>> scheduler.set_timesteps(4)
        >>> x = torch.randn(4, 3, 8, 8)
        >>> for t in scheduler.timesteps:
        ...     x = scheduler.step(torch.zeros_like(x), t, x, eta=0.3).prev_sample
    """

    _original = "diffusers.TCDScheduler"

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        eta: float = 0.3,
        generator: Generator = None,
        return_dict: bool = True,
    ) -> Any:
        """The next sample; arguments and results as in diffusers, but the generator may also be a
        Noise or a tensor."""
        check_step("step", model_output, sample, generator)
        eta = checked_number("step", "eta", eta, 0.0)
        if eta > 1:
            raise ValueError(f"step: eta must be in [0, 1], got {eta}")
        at, before = _begun(self, timestep)
        before = 0 if before is None else before
        middle = math.floor((1 - eta) * before)
        abar, abar_middle = float(self.alphas_cumprod[at]), float(self.alphas_cumprod[middle])
        abar_before = float(self.alphas_cumprod[before] if before >= 0 else self.final_alpha_cumprod)
        of_x0, of_epsilon = of_alphas(self.config.prediction_type, abar)
        root, noise = math.sqrt(abar_middle), math.sqrt(1 - abar_middle)
        a, b = (root * one + noise * other for one, other in zip(of_x0, of_epsilon, strict=True))
        x, output = together(sample, model_output)
        noised = mixed(x, a, output, b)
        previous = noised
        if eta > 0 and self.step_index != self.num_inference_steps - 1:
            normals = self._normals(generator, output, noised.dtype)
            share = abar_before / abar_middle
            previous = with_noise(noised, math.sqrt(share), math.sqrt(max(1 - share, 0.0)), normals)
        self._step_index += 1
        if not return_dict:
            return previous, noised
        return tcd.TCDSchedulerOutput(prev_sample=previous, pred_noised_sample=noised)


def _finished(x: Tensor, y: Tensor, a: float, b: float, std: float, normals: Any) -> Tensor:
    return mixed(x, a, y, b) if std == 0 or normals is None else step(x, y, a, b, std, normals)


def _begun(scheduler: Any, timestep: int | Tensor) -> tuple[int, int | None]:
    """(this timestep, the one after it in the schedule, or None at the end)."""
    if scheduler.num_inference_steps is None:
        raise ValueError("step: timestep must come from set_timesteps, which was not called")
    at = _checked_timestep(scheduler, timestep)
    if scheduler.step_index is None:
        scheduler._init_step_index(timestep)
    following = scheduler.step_index + 1
    return at, int(scheduler.timesteps[following]) if following < len(scheduler.timesteps) else None


def _checked_timestep(scheduler: Any, timestep: int | Tensor) -> int:
    at = checked_int("step", "timestep", timestep)
    if not 0 <= at < len(scheduler.alphas_cumprod):
        raise ValueError(f"step: timestep must be in [0, {len(scheduler.alphas_cumprod)}), got {at}")
    return at
