"""For diffusers: its training losses, fused, and its schedulers that draw noise, with fused steps
and noise that has a name."""

from .alpha_schedulers import DDIMScheduler, LCMScheduler, TCDScheduler
from .flow_matching import FlowNoised, add_flow_noise, density_timesteps, flow_loss
from .schedulers import DDPMScheduler, ScoreSdeVeScheduler
from .sigma_schedulers import (
    DPMSolverSDEScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from .training import Noised, add_noise, loss

__all__ = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverSDEScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowNoised",
    "LCMScheduler",
    "Noised",
    "ScoreSdeVeScheduler",
    "TCDScheduler",
    "add_flow_noise",
    "add_noise",
    "density_timesteps",
    "flow_loss",
    "loss",
]
