"""PyTorch Lightning with the fused loss: a sample's noise follows its number in the data set,
whichever rank sees it.

    python examples/lightning_digits.py
    torchrun --nproc-per-node=2 examples/lightning_digits.py    # two real ranks, no GPU needed

Needs pip install 'pyebm-kernels[integrations]'.
"""

from __future__ import annotations

import os

import lightning
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import pyebm


class Digits(Dataset):
    """Items are (number in the data set, picture)."""

    def __init__(self) -> None:
        self.images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[int, torch.Tensor]:
        return number, self.images[number]


class Score(lightning.LightningModule):
    """Denoising score matching at one noise level."""

    sigma = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.SiLU(), torch.nn.Linear(256, 64))
        self.losses: list[float] = []

    def noise(self, numbers: torch.Tensor) -> pyebm.Noise:
        """The noise of these samples at this step; ranks see different samples, and so draw
        different noise, with one seed for all."""
        return pyebm.Noise(0, sample_ids=numbers, step=self.global_step)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        numbers, x = batch
        noise = self.noise(numbers)
        loss = pyebm.dsm_loss(
            self.layers(pyebm.perturb(x, self.sigma, noise)), self.sigma, noise, weight="sigma2"
        )
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(epochs: int = 5) -> list[float]:
    lightning.seed_everything(0, verbose=False)
    data, model = Digits(), Score()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=int(os.environ.get("WORLD_SIZE", 1)),  # torchrun's processes, or this one
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data, batch_size=128, shuffle=True))
    say = print if trainer.is_global_zero else lambda _: None
    say(f"loss {model.losses[0]:.1f} at first, {model.losses[-1]:.1f} at last")

    # Two ranks would see these halves of an epoch's first batch, as Lightning's own sampler deals
    # them.
    ranks = [next(iter(DataLoader(data, 64, sampler=DistributedSampler(data, 2, rank)))) for rank in range(2)]
    noise = [model.noise(numbers).randn(x.shape) for numbers, x in ranks]
    assert not set(ranks[0][0].tolist()) & set(ranks[1][0].tolist())
    assert not torch.isclose(noise[0], noise[1]).any(dim=1).all()
    both = torch.cat([numbers for numbers, _ in ranks])
    assert torch.equal(model.noise(both).randn((128, 64)), torch.cat(noise))
    say("two ranks draw different noise, and together that of one process which sees both halves")
    return model.losses


if __name__ == "__main__":
    main()
