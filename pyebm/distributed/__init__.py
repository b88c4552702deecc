"""Sampling and training over many processes, with the bits of one.

torchrun starts the processes, or any other program that sets up ``torch.distributed``, which is
imported only if there are several processes. docs/distributed.md says which data each process
holds, and what moves between them.
"""

from .chains import gather_chains, share
from .sampling import Sampled, sample
from .states import load_state, save_state
from .training import noise_for

__all__ = ["Sampled", "gather_chains", "load_state", "noise_for", "sample", "save_state", "share"]
