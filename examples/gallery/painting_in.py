"""Digits whose lower half is painted in, by the exact score of the other digits, smoothed.

    python examples/gallery/painting_in.py

No network is trained.
"""

from __future__ import annotations

import sys

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import pyebm


def main(out: str = "painting_in.png", each: int = 10, steps_each: int = 20) -> None:
    digits = torch.as_tensor(load_digits().data, dtype=torch.float32) / 8 - 1  # (1797, 64) in [-1, 1]
    kept, rest = digits[:6], digits[6:]
    sigmas = torch.logspace(0.3, -0.8, 16).tolist()
    smoothed = {sigma: pyebm.targets.GaussianMixture.from_data(rest, sigma) for sigma in sigmas}

    def score(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        level = min(sigmas, key=lambda known: abs(known - float(sigma[0])))
        return smoothed[level].score(x)

    lower = torch.arange(64) >= 32  # the chain lives where the mask is True
    known = kept.repeat_interleave(each, 0)
    sampler = pyebm.samplers.AnnealedLangevin(
        score, sigmas, step_lr=0.1 * sigmas[-1] ** 2, n_steps_each=steps_each, mask=lower, known=known
    )
    painted = sampler(2 * pyebm.Noise(0).randn(known.shape), noise=pyebm.Noise(1))

    halves = kept.where(~lower, torch.full_like(kept, float("nan")))
    columns = torch.cat((kept[:, None], halves[:, None], painted.view(len(kept), each, 64)), 1)
    figure = Figure(figsize=(12, 6.2), dpi=80, layout="constrained")
    for axes, image in zip(
        figure.subplots(len(kept), 2 + each).flat, columns.view(-1, 8, 8).numpy(), strict=True
    ):
        axes.imshow(image, cmap="gray_r", vmin=-1, vmax=1)
        axes.set(xticks=(), yticks=(), facecolor="#cfe0f0")
    for axes, title in zip(figure.axes, ("real", "given", "painted in"), strict=False):
        axes.set_title(title)
    figure.savefig(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
