"""For diffusers: its training loss, fused, and two of its schedulers with fused steps."""

from .schedulers import DDPMScheduler, ScoreSdeVeScheduler
from .training import Noised, add_noise, loss

__all__ = ["DDPMScheduler", "Noised", "ScoreSdeVeScheduler", "add_noise", "loss"]
