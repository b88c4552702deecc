"""Hugging Face accelerate with the fused loss: every rank draws its own noise from one seed, and
all together draw the noise of one device.

    python examples/accelerate_digits.py
    torchrun --nproc_per_node 2 examples/accelerate_digits.py    # two real ranks, no GPU needed

Needs pip install 'pyebm-kernels[integrations]'.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import pyebm

SIGMA, BATCH = 0.5, 64


def main(epochs: int = 5) -> list[float]:
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
    layers = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.SiLU(), torch.nn.Linear(256, 64))
    optimiser = torch.optim.Adam(layers.parameters(), lr=1e-3)
    batches = DataLoader(TensorDataset(images), batch_size=BATCH, shuffle=True, drop_last=True)
    layers, optimiser, batches = accelerator.prepare(layers, optimiser, batches)

    noise, losses = (
        pyebm.Noise(0, first_sample=rank * BATCH),
        [],
    )  # each rank has its own share of a step's samples
    for _ in range(epochs):
        for (x,) in batches:
            z = noise.at(step=len(losses))
            loss = pyebm.dsm_loss(layers(pyebm.perturb(x, SIGMA, z)), SIGMA, z, weight="sigma2")
            optimiser.zero_grad()
            accelerator.backward(loss)
            optimiser.step()
            losses.append(loss.item())
    accelerator.print(f"{ranks} process(es): loss {losses[0]:.1f} at first, {losses[-1]:.1f} at last")

    together = accelerator.gather(noise.randn((BATCH, 64)))
    assert torch.equal(together, pyebm.Noise(0).randn((ranks * BATCH, 64)))
    # The same holds for more ranks than run here:
    four = torch.cat([pyebm.Noise(0).shard(first_sample=k * BATCH).randn((BATCH, 64)) for k in range(4)])
    assert torch.equal(four, pyebm.Noise(0).randn((4 * BATCH, 64)))
    assert len(four.unique(dim=0)) == 4 * BATCH
    accelerator.print(
        "the ranks' noise is all different, and together that of one process with the whole batch"
    )
    accelerator.end_training()
    return losses


if __name__ == "__main__":
    main()
