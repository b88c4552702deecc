"""Measures how good the new digits are, in numbers that are also given for real digits and for
noise."""

from __future__ import annotations

import torch
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from .digits import Digits


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # The matrix product is avoided: its cancellation puts points that coincide at a distance.
    return torch.cdist(a.flatten(1), b.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")


def mmd2(a: Tensor, b: Tensor, median: float) -> float:
    """The unbiased estimate of MMD^2 (Gretton et al. 2012) with the kernel exp(-d^2 / median^2);
    below 0 by chance if a ~ b."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-(_distances(x, y) / median).square()).double()

    def within(x: Tensor) -> Tensor:
        return (kernel(x, x).sum() - len(x)) / (len(x) * (len(x) - 1))  # leaves out the diagonal, which is 1

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def nearest(a: Tensor, b: Tensor) -> float:
    """The mean distance from a point of a to the nearest of b."""
    return float(_distances(a, b).amin(1).mean())


def matched_noise(real: Tensor, count: int, seed: int) -> Tensor:
    """Gaussian noise with every pixel's own mean and standard deviation, as a model without
    structure would draw it."""
    z = torch.randn(count, *real.shape[1:], generator=torch.Generator().manual_seed(seed))
    return real.mean(0) + real.std(0) * z


def measure(samples: Tensor, digits: Digits, *, seed: int, threshold: float = 0.9) -> dict[str, float]:
    """All the numbers, each for the samples, for real digits and for noise."""
    noise = matched_noise(digits.train, len(samples), seed)
    median = float(torch.pdist(digits.train.flatten(1)).median())
    classifier = LogisticRegression(max_iter=5000).fit(
        digits.train.flatten(1).numpy(), digits.train_labels.numpy()
    )

    def probabilities(x: Tensor) -> Tensor:
        return torch.as_tensor(classifier.predict_proba(x.flatten(1).numpy()))

    numbers = {}
    for name, x in {"samples": samples, "real": digits.train, "noise": noise}.items():
        numbers[f"mmd2_{name}"] = mmd2(x, digits.held_out, median)
        numbers[f"nearest_held_out_{name}"] = nearest(x, digits.held_out)
    # From here on the real digits are the held-out ones, since the classifier was trained on the
    # others and a copying model would have seen them.
    for name, x in {"samples": samples, "real": digits.held_out, "noise": noise}.items():
        numbers[f"nearest_train_{name}"] = nearest(x, digits.train)
        p = probabilities(x)
        numbers[f"sure_{name}"] = float((p.amax(1) > threshold).double().mean())
        numbers[f"rarest_digit_{name}"] = int(torch.bincount(p.argmax(1), minlength=10).min()) / len(x)
    right = probabilities(digits.held_out).argmax(1) == digits.held_out_labels
    return numbers | {"classifier_accuracy": float(right.double().mean())}


def table(numbers: dict[str, float]) -> Table:
    """The numbers as a table, beside those of real digits (the best possible) and of noise."""
    rows = {
        "mmd2": ("MMD² to held-out digits", "{:.4f}"),
        "nearest_held_out": ("distance to nearest held-out", "{:.2f}"),
        "nearest_train": ("distance to nearest training", "{:.2f}"),
        "sure": ("classifier is sure (p > 0.9)", "{:.0%}"),
        "rarest_digit": ("share of the rarest digit", "{:.1%}"),
    }
    out = Table(title="How good are the sampled digits?", title_justify="left")
    out.add_column("")
    for column in ("real", "sampled", "Gaussian noise"):
        out.add_column(column, justify="right")
    for key, (label, form) in rows.items():
        out.add_row(label, *(form.format(numbers[f"{key}_{name}"]) for name in ("real", "samples", "noise")))
    return out
