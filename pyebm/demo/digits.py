"""Handwritten digits: the data, a small network for their score, its training and the annealed
sampling."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pyebm

SHAPE = (1, 8, 8)
# At the largest sigma the smoothed digits form one mode, so a chain can reach any of them; noise of
# the smallest sigma is weaker than one grey level.
SIGMA_MAX, SIGMA_MIN = 3.0, 0.1
# Each use of the seed has its own stream, so that the uses are independent.
PERTURB, START, CHAIN, HELD_OUT = range(4)


@dataclass(frozen=True)
class Digits:
    """Real digits (B, 1, 8, 8) in [-1, 1] with their labels (B,), split once into a training and a
    held-out part."""

    train: Tensor
    train_labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor


def load(seed: int, share_held_out: float = 0.2) -> Digits:
    """scikit-learn's 1,797 digits, shuffled; 16 grey levels become [-1, 1]."""
    images, labels = load_digits(return_X_y=True)
    x = torch.as_tensor(images, dtype=torch.float32).view(-1, *SHAPE) / 8 - 1
    y = torch.as_tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    held_out, train = order.split([round(share_held_out * len(x)), len(x) - round(share_held_out * len(x))])
    return Digits(x[train], y[train], x[held_out], y[held_out])


def ladder(levels: int) -> Tensor:
    """The noise levels, a geometric sequence from SIGMA_MAX down to SIGMA_MIN."""
    return torch.logspace(math.log10(SIGMA_MAX), math.log10(SIGMA_MIN), levels)


class SigmaEmbedding(nn.Module):
    """Features of the noise level: sines and cosines of log sigma, from slow to fast, mixed by two
    layers."""

    mix: nn.Sequential

    frequencies: Tensor

    def __init__(self, width: int, waves: int = 16) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(math.log10(0.5), math.log10(30.0), waves))
        self.mix = nn.Sequential(nn.Linear(2 * waves, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, sigma: Tensor) -> Tensor:
        angle = sigma.log()[:, None] * self.frequencies
        mixed: Tensor = self.mix(torch.cat([angle.sin(), angle.cos()], 1))
        return mixed


class Block(nn.Module):
    """A residual pair of 3x3 convolutions, shifted per channel by the noise level. It starts as the
    identity."""

    first: nn.Sequential
    shift: nn.Linear
    second: nn.Sequential

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.shift = nn.Linear(embedding, channels)
        last = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Sequential(nn.GroupNorm(8, channels), nn.SiLU(), last)
        nn.init.zeros_(last.weight)

    def forward(self, h: Tensor, level: Tensor) -> Tensor:
        out: Tensor = h + self.second(self.first(h) + self.shift(level)[:, :, None, None])
        return out


class ScoreNet(nn.Module):
    """A small U-Net (8x8, 4x4, 2x2) for the score of the digits smoothed by sigma.

    The score is ``-x / (sigma^2 + deviation^2)``, that of a Gaussian as wide as the data, plus the
    network's output times ``deviation / (sigma sqrt(sigma^2 + deviation^2))``. With this factor the
    output stays of order one at every noise level.
    """

    embed: SigmaEmbedding
    enter: nn.Conv2d
    down: nn.ModuleList
    up: nn.ModuleList
    before: nn.ModuleList
    middle: nn.ModuleList
    after: nn.ModuleList
    leave: nn.Sequential

    position: Tensor

    def __init__(self, deviation: float, channels: int = 16, embedding: int = 64) -> None:
        super().__init__()
        c = channels
        self.deviation = deviation
        self.embed = SigmaEmbedding(embedding)
        self.enter = nn.Conv2d(3, c, 3, padding=1)
        self.down = nn.ModuleList([nn.Conv2d(c, 2 * c, 2, 2), nn.Conv2d(2 * c, 4 * c, 2, 2)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(4 * c, 2 * c, 2, 2), nn.ConvTranspose2d(2 * c, c, 2, 2)])
        self.before = nn.ModuleList([Block(c, embedding), Block(2 * c, embedding)])
        self.middle = nn.ModuleList([Block(4 * c, embedding), Block(4 * c, embedding)])
        self.after = nn.ModuleList([Block(2 * c, embedding), Block(c, embedding)])
        last = nn.Conv2d(c, 1, 3, padding=1)
        self.leave = nn.Sequential(nn.GroupNorm(8, c), nn.SiLU(), last)
        nn.init.zeros_(last.weight)
        # Digits are centred, but a convolution can't see a pixel's place, so the place is part of
        # the input.
        line = torch.linspace(-1, 1, SHAPE[-1])
        self.register_buffer("position", torch.stack(torch.meshgrid(line, line, indexing="ij"))[None])

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = self.embed(sigma)
        sigma = sigma[:, None, None, None]
        variance = sigma.square() + self.deviation**2
        h = self.enter(torch.cat([x / variance.sqrt(), self.position.expand(len(x), -1, -1, -1)], 1))
        skipped = []
        for block, down in zip(self.before, self.down, strict=True):
            h = block(h, level)
            skipped.append(h)
            h = down(h)
        for block in self.middle:
            h = block(h, level)
        for block, up in zip(self.after, self.up, strict=True):
            h = block(up(h) + skipped.pop(), level)
        beyond: Tensor = self.leave(h) * self.deviation / (sigma * variance.sqrt())
        return beyond - x / variance


def train(
    digits: Tensor,
    steps: int,
    *,
    seed: int,
    batch: int = 128,
    lr: float = 3e-3,
    levels: int = 32,
    decay: float = 0.998,
    report: Callable[[int, float], None] | None = None,
) -> tuple[ScoreNet, list[float]]:
    """Denoising score matching over a ladder of noise levels; returns the averaged network and the
    loss of every step."""
    # The initial weights follow the seed; the caller's generator stays as it is.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ScoreNet(float(digits.std()))
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    noise = pyebm.Noise(seed, stream=PERTURB)
    # Every batch gets all levels evenly, which makes a steadier loss than levels drawn at random.
    sigma = ladder(levels)[torch.arange(batch) % levels]
    batches = torch.Generator().manual_seed(seed)
    losses = []
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = (
            lr * min(1.0, (k + 1) / 100) * 0.5 * (1 + math.cos(math.pi * k / steps))
        )
        x = digits[torch.randint(len(digits), (batch,), generator=batches)]
        z = noise.at(step=k)
        loss = pyebm.dsm_loss(net(pyebm.perturb(x, sigma, z), sigma), sigma, z, weight="sigma2")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate = 1 - min(decay, (1 + k) / (10 + k))  # a short memory first, while the weights still travel
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in net.parameters()], rate)
        losses.append(loss.item())
        if report is not None:
            report(k + 1, losses[-1])
    return average, losses


@torch.no_grad()
def mean_loss(net: ScoreNet, digits: Tensor, *, seed: int, levels: int = 32, rounds: int = 4) -> float:
    """The mean loss on digits, spread evenly over all noise levels. Each digit gets fresh noise in
    every round."""
    sigmas, noise = ladder(levels), pyebm.Noise(seed, stream=HELD_OUT)
    total = 0.0
    for k in range(rounds):
        sigma = sigmas[(torch.arange(len(digits)) + k * levels // rounds) % levels]
        z = noise.at(step=k)
        total += pyebm.dsm_loss(net(pyebm.perturb(digits, sigma, z), sigma), sigma, z, weight="sigma2").item()
    return total / rounds


def sample(
    net: ScoreNet,
    count: int,
    *,
    seed: int,
    levels: int = 24,
    steps_each: int = 12,
    kept: int = 12,
    report: Callable[[int, Tensor, dict[str, Any]], None] | None = None,
) -> Tensor:
    """New digits by annealed Langevin dynamics: returns ``kept`` states on the way,
    (kept, count, 1, 8, 8), the last of which is the result.

    ``kept`` must divide the number of steps.
    """
    sigmas = ladder(levels)
    # With steps of a tenth of sigma^2, a dozen steps bring the noise in the state to within 5 % of
    # the level's sigma.
    sampler = pyebm.samplers.AnnealedLangevin(
        net, sigmas, step_lr=0.1 * SIGMA_MIN**2, n_steps_each=steps_each, denoise=True
    )
    x0 = SIGMA_MAX * pyebm.Noise(seed, stream=START).randn((count, *SHAPE))
    return sampler(
        x0, noise=pyebm.Noise(seed, stream=CHAIN), thin=len(sampler) // kept, callback=report
    ).states


def sigmas_of(states: Tensor, levels: int) -> list[float]:
    """The noise level of each of the states that :func:`sample` kept on the way."""
    return [float(ladder(levels)[-(-(i + 1) * levels // len(states)) - 1]) for i in range(len(states))]
