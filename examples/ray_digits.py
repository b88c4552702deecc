"""Ray Data: samples by their ids, in blocks that any number of workers take in any order.

    python examples/ray_digits.py

Needs pip install 'ray[data]' scikit-learn. Ray makes the blocks of a worker that died anew: the
same, since a sample's noise follows from its id.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

import pyebm

try:
    import ray
except ImportError:
    raise SystemExit("examples/ray_digits.py needs Ray: pip install 'ray[data]'") from None

SIGMA, STEPS = 0.5, 100


def drawn(block):
    """A block of samples, from their ids; a class would keep a network from block to block."""
    torch.set_num_threads(1)
    data = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
    sampler = pyebm.samplers.Langevin(pyebm.targets.GaussianMixture.from_data(data, SIGMA), 0.01)
    noise = pyebm.Noise(0, sample_ids=torch.tensor(block["id"]))
    x0 = noise.at(stream=9).randn((len(block["id"]), 64))
    return {"id": block["id"], "x": sampler(x0, STEPS, noise=noise).numpy()}


def main(samples: int = 1000, batch: int = 50) -> torch.Tensor:
    ids = ray.data.range(samples, override_num_blocks=-(-samples // batch))
    rows = sorted(ids.map_batches(drawn, batch_size=batch).take_all(), key=lambda row: row["id"])
    x = torch.stack([torch.tensor(row["x"]) for row in rows])

    some = [samples - 1, 0, samples // 2]  # alone, in another order, in this process
    assert torch.equal(torch.from_numpy(drawn({"id": some})["x"]), x[some])
    print(f"{len(x)} samples by Ray's workers; those with the ids {some}, made here, have the same bits")
    return x


if __name__ == "__main__":
    main()
