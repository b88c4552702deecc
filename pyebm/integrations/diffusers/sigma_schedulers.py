"""diffusers' schedulers over noise levels sigma, with fused steps and named noise: Euler's, the
ancestral one, flow matching's, and DPM-Solver's for the SDE."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..._checks import check_samples, checked_number
from ..._options import shown
from ...noise import Noise
from .._churn import checked_range
from .._draws import UNUSED, Draws, predicted_step, step
from ..brownian import BrownianTreeNoiseSampler
from ._fused import mixed, of_sigma, together, with_noise
from ._named import Generator, Named, check_step

from diffusers import schedulers as theirs  # isort: skip
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral  # isort: skip
from diffusers.schedulers import scheduling_euler_discrete as euler  # isort: skip
from diffusers.schedulers import scheduling_flow_match_euler_discrete as flow  # isort: skip


class EulerDiscreteScheduler(Named, theirs.EulerDiscreteScheduler):
    """diffusers' EulerDiscreteScheduler with a ``step`` of one fused pass on the CPU and two on a
    GPU (one more with ``s_churn``), whose noise has a name.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.diffusers import EulerDiscreteScheduler
        >>> scheduler = EulerDiscreteScheduler(num_train_timesteps=100)
        >>> scheduler.noise = pyebm.Noise(0)
        >>> scheduler.set_timesteps(10)
        >>> x = scheduler.init_noise_sigma * torch.randn(4, 3, 8, 8)
        >>> for t in scheduler.timesteps:
        ...     output = torch.zeros_like(scheduler.scale_model_input(x, t))
        ...     x = scheduler.step(output, t, x, s_churn=5.0).prev_sample
    """

    _original = "diffusers.EulerDiscreteScheduler"

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
        generator: Generator = None,
        return_dict: bool = True,
    ) -> Any:
        """The next sample; arguments and results as in diffusers, but the generator may also be a
        Noise or a tensor."""
        check_step("step", model_output, sample, generator)
        s_churn, s_noise = (
            checked_number("step", "s_churn", s_churn),
            checked_number("step", "s_noise", s_noise),
        )
        s_tmin, s_tmax = checked_range("step", ("s_tmin", s_tmin), ("s_tmax", s_tmax))
        index = _begun(self, timestep)
        sigma, after = float(self.sigmas[index]), float(self.sigmas[index + 1])
        gamma = min(s_churn / (len(self.sigmas) - 1), math.sqrt(2) - 1) if s_tmin <= sigma <= s_tmax else 0.0
        hat = sigma * (gamma + 1)
        x, output = together(sample.to(torch.float32), model_output)
        if gamma > 0:
            normals = self._normals(generator, model_output)
            x = with_noise(x, 1.0, s_noise * math.sqrt(hat**2 - sigma**2), normals)
        a, b = of_sigma(self.config.prediction_type, sigma, hat)
        kept = after / hat
        if (a, b) == (0.0, 1.0):
            x0, previous = output, mixed(x, kept, output, 1 - kept)
        else:
            x0, previous = predicted_step(x, output, (a, b), kept, 1 - kept, 0.0, UNUSED)
        previous = previous.to(model_output.dtype)
        self._step_index += 1
        if not return_dict:
            return previous, x0
        return euler.EulerDiscreteSchedulerOutput(prev_sample=previous, pred_original_sample=x0)


class EulerAncestralDiscreteScheduler(Named, theirs.EulerAncestralDiscreteScheduler):
    """diffusers' EulerAncestralDiscreteScheduler with a ``step`` of one fused pass on the CPU and
    two on a GPU, whose noise has a name.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.diffusers import EulerAncestralDiscreteScheduler
        >>> scheduler = EulerAncestralDiscreteScheduler(num_train_timesteps=100)
        >>> scheduler.noise = pyebm.Noise(0)
        >>> scheduler.set_timesteps(10)
        >>> x = scheduler.init_noise_sigma * torch.randn(4, 3, 8, 8)
        >>> for t in scheduler.timesteps:
        ...     output = torch.zeros_like(scheduler.scale_model_input(x, t))
        ...     x = scheduler.step(output, t, x).prev_sample
    """

    _original = "diffusers.EulerAncestralDiscreteScheduler"

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generator = None,
        return_dict: bool = True,
    ) -> Any:
        """The next sample; arguments and results as in diffusers, but the generator may also be a
        Noise or a tensor."""
        check_step("step", model_output, sample, generator)
        kind = self.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            return super().step(model_output, timestep, sample, generator, return_dict)  # it refuses
        index = _begun(self, timestep)
        sigma, after = float(self.sigmas[index]), float(self.sigmas[index + 1])
        up = math.sqrt(after**2 * (sigma**2 - after**2) / sigma**2)
        kept = math.sqrt(max(after**2 - up**2, 0.0)) / sigma
        x, output = together(sample.to(torch.float32), model_output)
        normals = self._normals(generator, model_output)
        x0, previous = predicted_step(x, output, of_sigma(kind, sigma, sigma), kept, 1 - kept, up, normals)
        previous = previous.to(model_output.dtype)
        self._step_index += 1
        if not return_dict:
            return previous, x0
        return ancestral.EulerAncestralDiscreteSchedulerOutput(prev_sample=previous, pred_original_sample=x0)


class FlowMatchEulerDiscreteScheduler(Named, theirs.FlowMatchEulerDiscreteScheduler):
    """diffusers' FlowMatchEulerDiscreteScheduler with a ``step`` of one fused pass; with
    ``stochastic_sampling`` its noise has a name.

    Steps with a timestep for each token run diffusers' own code.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.diffusers import FlowMatchEulerDiscreteScheduler
        >>> scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
        >>> scheduler.noise = pyebm.Noise(0)
        >>> scheduler.set_timesteps(10)
        >>> x = torch.randn(4, 3, 8, 8)
        >>> for t in scheduler.timesteps:
        ...     x = scheduler.step(torch.zeros_like(x), t, x).prev_sample
    """

    _original = "diffusers.FlowMatchEulerDiscreteScheduler"

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
        generator: Generator = None,
        per_token_timesteps: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """The next sample; arguments and results as in diffusers (s_churn and the others like it
        change nothing there either), but the generator may also be a Noise or a tensor."""
        check_step("step", model_output, sample, generator)
        if per_token_timesteps is not None:
            if isinstance(generator, (Noise, Tensor)):
                raise TypeError(
                    "step: generator must be a torch.Generator where per_token_timesteps is given"
                )
            churn = (s_churn, s_tmin, s_tmax, s_noise)
            return super().step(
                model_output, timestep, sample, *churn, generator, per_token_timesteps, return_dict
            )
        index = _begun(self, timestep)
        sigma, after = float(self.sigmas[index]), float(self.sigmas[index + 1])
        x, output = together(sample.to(torch.float32), model_output)
        if self.config.stochastic_sampling:
            normals = self._normals(generator, x)
            previous = step(x, output, 1 - after, -(1 - after) * sigma, after, normals)
        else:
            previous = mixed(x, 1.0, output, after - sigma)
        previous = previous.to(model_output.dtype)
        self._step_index += 1
        if not return_dict:
            return (previous,)
        return flow.FlowMatchEulerDiscreteSchedulerOutput(prev_sample=previous)


class DPMSolverSDEScheduler(Named, theirs.DPMSolverSDEScheduler):
    """diffusers' DPMSolverSDEScheduler over a :class:`pyebm.integrations.brownian.BrownianPath`,
    which is faster than torchsde's tree, and the same for any batch and device.

    ``scheduler.noise`` is a Noise at step 0. Run r, counted from the last time that the noise was
    set, takes its stream + r; without a Noise, ``noise_sampler_seed`` names the path of every run,
    as in diffusers, and None a fresh one. torch.randn_like as the noise leaves torchsde's tree.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.diffusers import DPMSolverSDEScheduler
        >>> scheduler = DPMSolverSDEScheduler(num_train_timesteps=100)
        >>> scheduler.noise = pyebm.Noise(0)
        >>> scheduler.set_timesteps(5)
        >>> x = scheduler.init_noise_sigma * torch.randn(4, 3, 8, 8)
        >>> for t in scheduler.timesteps:
        ...     output = torch.zeros_like(scheduler.scale_model_input(x, t))
        ...     x = scheduler.step(output, t, x).prev_sample
    """

    _original = "diffusers.DPMSolverSDEScheduler"
    _runs = 0
    noise_sampler: Any

    @property
    def noise(self) -> Any:
        return Named.noise.__get__(self)

    @noise.setter
    def noise(self, source: Any) -> None:
        self._draws, self._runs = Draws(source), 0
        self.noise_sampler = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the path, which its name makes again."""
        make, args, state = super().__reduce__()
        if isinstance(self.noise_sampler, BrownianTreeNoiseSampler):
            state = {**state, "noise_sampler": None, "_runs": max(self._runs - 1, 0)}
        return make, args, state

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """As diffusers' method. The next step begins a run."""
        super().set_timesteps(*args, **kwargs)
        if isinstance(self.noise_sampler, BrownianTreeNoiseSampler):
            self.noise_sampler = None

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        return_dict: bool = True,
        s_noise: float = 1.0,
    ) -> Any:
        """The next sample; arguments and results as in diffusers."""
        check_samples("step", "sample", sample)
        source = self.noise
        if self.noise_sampler is None and (source is None or isinstance(source, Noise)):
            seed: Any = self.noise_sampler_seed
            if source is not None:
                seed = source.at(stream=source.stream + self._runs)
                self._runs += 1
            self.noise_sampler = BrownianTreeNoiseSampler(sample, seed=seed)
        return super().step(model_output, timestep, sample, return_dict, s_noise)


def _begun(scheduler: Any, timestep: float | Tensor) -> int:
    """The index of the step, as diffusers finds it."""
    if isinstance(timestep, int) or (isinstance(timestep, Tensor) and not timestep.is_floating_point()):
        raise ValueError(f"step: timestep must be one of scheduler.timesteps, a float, got {shown(timestep)}")
    if scheduler.step_index is None:
        scheduler._init_step_index(timestep)
    index: int = scheduler.step_index
    return index
