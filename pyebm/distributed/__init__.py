"""Sampling and training over many processes, with the bits of one.

The processes are torchrun's, or whatever set up ``torch.distributed``, which is imported only where
there are several. docs/distributed.md says what is held and moved.
"""

from .sampling import Sampled, sample
from .training import gather_chains, noise_for

__all__ = ["Sampled", "gather_chains", "noise_for", "sample"]
