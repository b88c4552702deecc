"""The numbers themselves: Philox's known answers, the contract's definition written a second
time, the accuracy, and statistics."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from pyebm import Noise, reference

# Each line: counter, key and output of Philox4x32-10. Source: Random123 (D. E. Shaw Research),
# tests/kat_vectors.
KNOWN_ANSWERS = """
00000000 00000000 00000000 00000000  00000000 00000000  6627e8d5 e169c58d bc57ac4c 9b00dbd8
ffffffff ffffffff ffffffff ffffffff  ffffffff ffffffff  408f276d 41c83b0e a20bc7c6 6d5451fd
243f6a88 85a308d3 13198a2e 03707344  a4093822 299f31d0  d16cfe09 94fdcceb 5001e420 24126ea1
"""
VECTORS = [[int(word, 16) for word in line.split()] for line in KNOWN_ANSWERS.strip().splitlines()]

Words = NDArray[np.uint64]
Doubles = NDArray[np.float64]


def philox(counter: list[Words | int], key: list[int]) -> list[Words]:
    """Philox4x32-10 written a second time, from Salmon et al. (2011) and in numpy, so that it
    shares nothing with the library."""
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    for k in range(10):
        bump0, bump1 = ((key[i] + k * step) % 2**32 for i, step in enumerate((0x9E3779B9, 0xBB67AE85)))
        p, q = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b, c, d = (
            (q >> shift) ^ b ^ np.uint64(bump0),
            q & low,
            (p >> shift) ^ d ^ np.uint64(bump1),
            p & low,
        )
    return [a, b, c, d]


def by_definition(elements: int, seed: int, sample: int, step: int, stream: int) -> tuple[Doubles, Doubles]:
    """docs/noise.md word for word, in float64: returns a sample's normals, and the radius R of
    each."""
    words = philox([np.arange((elements + 3) // 4), sample, step, stream], [seed % 2**32, seed % 2**64 >> 32])
    r, angle = np.stack(words[0::2], 1), np.stack(words[1::2], 1)
    u = r.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    radius = np.sqrt(-2 * np.log(u.astype(np.float64)))
    turn = angle.astype(np.float64) * (2 * np.pi / 2**32)
    z = np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1)
    return z.reshape(-1)[:elements], np.repeat(radius.reshape(-1), 2)[:elements]


def errors(z: NDArray[np.float32], exact: Doubles, radius: Doubles) -> tuple[float, float]:
    """Returns the largest error in ulp of the normal itself, over normals that are not tiny, and in
    ulp of its radius R, over all.

    Near a zero of the cosine a relative error says more about the float64 angle here than about the
    library.
    """
    error = np.abs(z - exact)
    plain = np.abs(exact) > 1e-6
    ulp = np.spacing(np.abs(exact[plain]).astype(np.float32)), np.spacing(radius.astype(np.float32))
    return float((error[plain] / ulp[0]).max()), float((error / ulp[1]).max())


@pytest.mark.parametrize("vector", VECTORS, ids=["zeros", "ones", "pi"])
def test_philox_known_answers(vector):
    counter, key, answer = vector[:4], vector[4:6], vector[6:]
    words = torch.tensor(counter + key)
    assert [int(word) for word in reference.philox4x32_10(tuple(words[:4]), tuple(words[4:]))] == answer
    assert [int(word) for word in philox(counter, key)] == answer


@pytest.mark.parametrize(
    ("seed", "sample", "step", "stream"),
    [
        (0, 0, 0, 0),
        (2**64 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        (-(2**63), 5, 1, 2),
        (0x0123456789ABCDEF, 10**9, 7, 2**31),
    ],
)
def test_contract(backend, device, seed, sample, step, stream):
    """The largest errors measured over 2 x 10^8 normals: 4.55 ulp of the normal, 2.98 ulp of R,
    8.8e-7 in absolute terms."""
    noise = Noise(seed, first_sample=sample, step=step, stream=stream)
    z = noise.randn((1, 200_003), device=device, backend=backend)[0].cpu().numpy()
    of_normal, of_radius = errors(z, *by_definition(200_003, seed, sample, step, stream))
    assert of_normal < 5
    assert of_radius < 3.2


@pytest.mark.parametrize("elements", [1, 2, 3, 5, 1023, 1026])
def test_contract_holds_for_every_size(backend, device, elements):
    z = Noise(3).randn((4, elements), device=device, backend=backend).cpu().numpy()
    for sample in range(4):
        assert errors(z[sample], *by_definition(elements, 3, sample, 0, 0))[1] < 3.2


def test_ends_of_the_radius():
    """u = 2^-33 gives the longest radius; the largest words round to u = 1, whose radius is 0 and
    not NaN."""
    radius = torch.tensor([0, 1, 2**32 - 129, 2**32 - 1])
    cos, sin = reference.box_muller(radius, torch.tensor([0, 2**30, 0, 2**31]))
    torch.testing.assert_close(cos[0].item(), math.sqrt(66 * math.log(2)), rtol=2e-7, atol=0)
    torch.testing.assert_close(sin[1].item(), math.sqrt(-2 * math.log(1.5 * 2**-32)), rtol=2e-7, atol=0)
    torch.testing.assert_close(cos[2].item(), math.sqrt(-2 * math.log1p(-(2.0**-24))), rtol=2e-7, atol=0)
    assert cos[3] == sin[3] == 0


@pytest.mark.parametrize("eighth", range(8))
def test_quadrants(eighth):
    """Tests both sides of every multiple of an eighth of a turn, where the polynomials change
    places."""
    angle = (torch.arange(-3, 4) + eighth * 2**29) % 2**32
    cos, sin = reference.box_muller(torch.full_like(angle, 2**31 - 1), angle)
    radius = math.sqrt(2 * math.log(2))
    turn = torch.arange(-3, 4, dtype=torch.float64) * (math.tau / 2**32) + eighth * math.tau / 8
    torch.testing.assert_close(cos.double(), radius * turn.cos(), rtol=0, atol=2e-7)
    torch.testing.assert_close(sin.double(), radius * turn.sin(), rtol=0, atol=2e-7)
    exact = eighth % 2 == 0  # on the axes exactly one of the two is 0
    assert (min(abs(cos[3]), abs(sin[3])) == 0) == exact


BINS, TAILS = 4096, (1, 2, 3, 4, 5, 6)


class Tally:
    """Sums over blocks of normals; says how many standard deviations each sum is from its value
    under N(0, 1)."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.variances: dict[str, float] = defaultdict(float)
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.tails = dict.fromkeys(TAILS, 0)

    def add(self, name: str, values: torch.Tensor, variance: float) -> None:
        self.sums[name] += values.sum().item()
        self.variances[name] += variance * values.numel()

    def block(self, noise: Noise, shape: tuple[int, int]) -> None:
        z = noise.randn(shape).double()
        self.counts += torch.bincount((torch.special.ndtr(z) * BINS).long().flatten(), minlength=BINS)
        for t in TAILS:
            self.tails[t] += int((z.abs() > t).sum())
        square = z * z
        for name, values, variance in (
            ("z", z, 1),
            ("z^2", square - 1, 2),
            ("z^3", square * z, 15),
            ("z^4", square**2 - 3, 96),
        ):
            self.add(name, values, variance)
        others = {
            "step": noise.at(step=noise.step ^ 1),
            "stream": noise.at(stream=noise.stream + 1),
            "sample": noise.shard(first_sample=noise.first_sample + 1),
            "seed": Noise(noise.seed + 1, step=noise.step),
        }
        pairs = {name: (z, other.randn(shape).double()) for name, other in others.items()}
        pairs.update({f"element+{lag}": (z[:, :-lag], z[:, lag:]) for lag in range(1, 5)})
        for name, (a, b) in pairs.items():
            self.add(f"correlation with next {name}", a * b, 1)
            self.add(f"correlation of squares with next {name}", (a * a - 1) * (b * b - 1), 4)

    def scores(self) -> dict[str, float]:
        return {name: value / math.sqrt(self.variances[name]) for name, value in self.sums.items()}

    def tail_probabilities(self) -> dict[int, float]:
        n = int(self.counts.sum())
        law = {t: stats.binom(n, 2 * stats.norm.sf(t)) for t in TAILS}
        return {
            t: float(min(1.0, 2 * min(law[t].cdf(count), law[t].sf(count - 1))))
            for t, count in self.tails.items()
        }

    def kolmogorov(self) -> tuple[float, float]:
        """Kolmogorov's distance at the bins' edges, and the chance of a larger one."""
        n = int(self.counts.sum())
        reached = self.counts.cumsum(0) / n - torch.arange(1, BINS + 1, dtype=torch.float64) / BINS
        distance = reached.abs().max().item()
        return distance, float(stats.kstwobign.sf(distance * math.sqrt(n)))


def check(blocks: int, capsys: pytest.CaptureFixture[str] | None = None) -> None:
    tally = Tally()
    for k in range(blocks):
        tally.block(Noise(2026, step=2 * k), (1000, 1000))
    scores, tails, (distance, chance) = tally.scores(), tally.tail_probabilities(), tally.kolmogorov()
    chi2 = stats.chisquare(tally.counts.numpy()).pvalue
    if capsys:
        with capsys.disabled():
            print(
                f"\n{blocks} x 10^6 normals; KS distance {distance:.2e} (p = {chance:.2f}), chi2 of {BINS}"
                f" bins p = {chi2:.2f}"
            )
            print("standard scores:", {name: round(value, 2) for name, value in scores.items()})
            print("beyond t:", tally.tails, "p:", {t: round(p, 3) for t, p in tails.items()})
    assert max(map(abs, scores.values())) < 4.5  # 20 scores: larger by chance once in 7,000 seeds
    assert min(tails.values()) > 1e-4
    assert chance > 1e-4
    assert chi2 > 1e-4


def test_statistics():
    check(blocks=2)


@pytest.mark.slow
def test_statistics_of_1e8(capsys):
    check(blocks=128, capsys=capsys)


@pytest.mark.slow
def test_every_radius(capsys):
    """Compares R with float64 at every float32 that a word rounds to: all words below 2^24, then
    2^23 in each binade."""
    worst = 0.0
    for binade in range(24, 33):
        words = (
            torch.arange(2**24)
            if binade == 24
            else torch.arange(2**23) * 2 ** (binade - 24) + 2 ** (binade - 1)
        )
        for part in words.split(1 << 21):
            radius = reference.box_muller(part, torch.zeros_like(part))[0].double()  # cos 0 = 1
            exact = (-2 * (part.float() * 2.0**-32 + 2.0**-33).double().log()).sqrt()
            ulp = torch.from_numpy(np.spacing(exact.float().numpy())).double()
            worst = max(worst, ((radius - exact).abs() / ulp).max().item())
    with capsys.disabled():
        print(f"\nR: {worst:.3f} ulp")
    assert worst < 2
