"""DiT's sample_ddp.py on pyebm.distributed.sample: pictures of random classes, and one .npz of all
of them for an evaluator.

    torchrun --nproc-per-node=2 examples/sample_ddp_digits.py

There a rank's seed is ``global_seed * world_size + rank``, so that another number of ranks draws
other pictures. Here a picture follows from its number alone. It needs scikit-learn.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch

import pyebm

sys.path.insert(0, str(Path(__file__).parent))
import generate_digits  # the sampler: a class for each picture, then EDM's steps


def main(pictures: int = 64, batch: int = 8, out: str = "out/sample_ddp") -> Path:
    torch.set_num_threads(1)
    made = pyebm.distributed.sample(
        generate_digits.sampler,
        generate_digits.shape,
        ids=range(pictures),  # in place of n_per_gpu and index = i * world_size + rank + total
        noise=pyebm.Noise(0),  # in place of global_seed
        batch=batch,
        out=out,
    )
    path = Path(f"{out}.npz")
    if os.environ.get("RANK", "0") == "0":  # as its create_npz_from_sample_folder
        x = np.concatenate([np.load(file)["x"] for file in sorted(Path(out).glob("samples-*.npz"))])
        pixels = (x * 127.5 + 128).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        np.savez(path, arr_0=pixels)
        print(f"{path}: {pixels.shape}, by {made.ranks} process(es), {made.found} of them found")
    return path


if __name__ == "__main__":
    main()
