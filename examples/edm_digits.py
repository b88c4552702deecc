"""EDM's training loop with our EDMLoss, and its stochastic sampler with our random generator, which
has a seed for each picture.

    python examples/edm_digits.py
"""

from __future__ import annotations

import itertools

import torch
from sklearn.datasets import load_digits

from pyebm import Noise
from pyebm.integrations.edm import EDMLoss, StackedRandomGenerator


class Denoiser(torch.nn.Module):
    """An MLP with EDM's preconditioning, sigma_data = 0.6."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(65, 256),
            torch.nn.SiLU(),
            torch.nn.Linear(256, 256),
            torch.nn.SiLU(),
            torch.nn.Linear(256, 64),
        )

    def forward(self, x, sigma, *_, **__):
        sigma = sigma.to(torch.float32).reshape(-1, 1).expand(len(x), 1)
        flat, whole = x.to(torch.float32).flatten(1), (sigma**2 + 0.36).sqrt()
        output = self.layers(torch.cat([flat / whole, sigma.log() / 4], dim=1))
        return (flat * 0.36 / whole**2 + output * 0.6 * sigma / whole).view(x.shape)


@torch.no_grad()
def sample(net, latents, randn_like, steps=30, churn=10.0):
    """Karras et al. (2022), algorithm 2, first order, in float64 as in their code."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    times = torch.cat(
        [(20 ** (1 / 7) + ramp * (0.02 ** (1 / 7) - 20 ** (1 / 7))) ** 7, torch.zeros(1, dtype=torch.float64)]
    )
    x = latents.double() * times[0]
    for now, after in itertools.pairwise(times):
        raised = now * (1 + min(churn / steps, 2**0.5 - 1))
        x = x + (raised**2 - now**2).sqrt() * randn_like(x)
        x = x + (after - raised) * (x - net(x, raised).double()) / raised
    return x


def main(steps: int = 2000) -> torch.Tensor:
    torch.manual_seed(0)
    digits = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    net, loss = Denoiser(), EDMLoss(sigma_data=0.6, noise=Noise(0), reduction="sum")
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(steps):
        x = digits[torch.randint(0, len(digits), (128,))]
        value = loss(net, x).sum() / x.numel()  # their code takes the sum; it changes nothing
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    def pictures(seeds):
        rnd = StackedRandomGenerator("cpu", seeds)
        return sample(net, rnd.randn([len(seeds), 1, 8, 8]), rnd.randn_like)

    images = pictures(range(8))
    apart = (pictures([5, 2]) - images[[5, 2]]).abs().max()
    print(
        f"loss {value:.3f}; seeds 5 and 2 alone, and among 8: apart by {apart:.1e} (the network's own"
        " rounding)"
    )
    for row in range(8):
        print(
            " ".join(
                "".join(" .:+#@@"[int(3 * v.clamp(-1, 1) + 3)] for v in image[0, row]) for image in images
            )
        )
    return images


if __name__ == "__main__":
    main()
