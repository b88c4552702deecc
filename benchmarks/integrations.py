"""``python -m pyebm.benchmarks.integrations``: what the adapters bring at the call site, what names
alone cost, and what other packages would gain: the tables of docs/integrations-figures.md.

Each line measures the code around the network in one training or sampling step, for a given network
output, once in the package's own form and once in ours: the time and extra memory of both, and the
share of the whole step when the network is the one named.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator

import torch

from . import rivals
from .call_sites import (
    diffusers_step,
    diffusers_training,
    edm_loss,
    k_diffusion_loss,
    k_diffusion_path,
    ncsnv2_loss,
    ncsnv2_step,
    randn,
    score_sde_loss,
    score_sde_step,
)
from .considered import deepinv_ula, flow_matching_loss, sbi_loss
from .energy_call_sites import (
    ebmkit_named,
    ebmkit_predictor_corrector,
    ebmkit_step,
    torchebm_flow_loss,
    torchebm_riemannian,
    torchebm_sde_step,
    torchebm_step,
)
from .timing import Run, extra_bytes, take_turns
from .timing import clock as clock_of

LATENTS, IMAGES, SMALL = (16, 4, 64, 64), (64, 3, 64, 64), (128, 3, 32, 32)

Line = tuple[str, tuple[int, ...], Callable[[], tuple[Run, Run]], int]
LINES: list[Line] = [
    *(
        ("diffusers: epsilon loss", s, lambda s=s: diffusers_training(s, "epsilon", None), 1)
        for s in (LATENTS, IMAGES, SMALL)
    ),
    ("diffusers: v loss, min-SNR", LATENTS, lambda: diffusers_training(LATENTS, "v_prediction", 5.0), 1),
    *(
        ("diffusers: DDPMScheduler.step", s, lambda s=s: diffusers_step(s, "DDPM"), 1)
        for s in (LATENTS, IMAGES)
    ),
    ("diffusers: ScoreSdeVe step_pred", IMAGES, lambda: diffusers_step(IMAGES, "pred"), 1),
    ("diffusers: ScoreSdeVe step_correct", IMAGES, lambda: diffusers_step(IMAGES, "correct"), 1),
    ("k-diffusion: Denoiser.loss", IMAGES, lambda: k_diffusion_loss(IMAGES), 1),
    *(
        ("k-diffusion: the noise of DPM++ SDE", s, lambda s=s: k_diffusion_path(s), 20)
        for s in ((64, 2), (4, 4, 64, 64), LATENTS)
    ),
    *(
        ("torchebm: integrator step", s, lambda s=s: torchebm_step(s), 1)
        for s in ((64, 2), (4096, 32), SMALL)
    ),
    ("torchebm: FlowSampler, SDE step", SMALL, lambda: torchebm_sde_step(SMALL), 1),
    ("torchebm: FlowMatchingLoss, loss", SMALL, lambda: torchebm_flow_loss(SMALL), 1),
    *(
        ("ebmkit: LangevinDynamics.step", s, lambda s=s: ebmkit_step(s), 1)
        for s in ((64, 2), (4096, 32), SMALL)
    ),
    ("ebmkit: PredictorCorrector.step", SMALL, lambda: ebmkit_predictor_corrector(SMALL), 1),
    ("ncsnv2: loss", SMALL, lambda: ncsnv2_loss(SMALL), 1),
    ("ncsnv2: annealed step", SMALL, lambda: ncsnv2_step(SMALL), 10),
    ("score_sde: VE loss", SMALL, lambda: score_sde_loss(SMALL), 1),
    ("score_sde: corrector + predictor", SMALL, lambda: score_sde_step(SMALL), 1),
    ("EDM: loss, elementwise", SMALL, lambda: edm_loss(SMALL, "none"), 1),
    ("EDM: loss, reduction sum", SMALL, lambda: edm_loss(SMALL, "sum"), 1),
]

POINTS = (64, 2)
# The package's own code, whose draws have names.
NAMED: list[Line] = [
    *(
        ("ebmkit: PreconditionedLangevin", s, lambda s=s: ebmkit_named(s, "PreconditionedLangevin"), 1)
        for s in (POINTS, (4096, 32))
    ),
    ("ebmkit: NUTS", POINTS, lambda: ebmkit_named(POINTS, "NUTS"), 1),
    ("ebmkit: ParallelTempering", POINTS, lambda: ebmkit_named(POINTS, "ParallelTempering"), 1),
    ("torchebm: RiemannianManifoldHMC", POINTS, lambda: torchebm_riemannian(POINTS), 1),
]
# Packages without an adapter: "ours" is pyebm's functions in the place of theirs.
CONSIDERED: list[Line] = [
    ("deepinv: ULA", SMALL, lambda: deepinv_ula(SMALL), 1),
    ("sbi: VPScoreEstimator, loss", (200, 5), lambda: sbi_loss((200, 5)), 1),
    ("flow_matching: CondOT path and loss", POINTS, lambda: flow_matching_loss(POINTS), 1),
    ("flow_matching: CondOT path and loss", SMALL, lambda: flow_matching_loss(SMALL), 1),
]


def network() -> tuple[Run, Run, str]:
    """A small UNet2DModel at the size SMALL: its forward pass, its forward and backward pass,
    and its description."""
    torch.manual_seed(0)
    unet = rivals.get("diffusers").UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        norm_num_groups=8,
    )
    x, t = randn(SMALL), torch.zeros(SMALL[0], dtype=torch.long)
    size = sum(p.numel() for p in unet.parameters()) / 1e6

    def forward() -> None:
        with torch.no_grad():
            unet(x, t)

    return forward, lambda: unet(x, t).sample.sum().backward(), f"a UNet2DModel of {size:.1f} M parameters"


def table(lines: list[Line] = LINES, seconds: float = 1.5, least: bool = False) -> Iterator[str]:
    """Yields the lines of the table; each is measured for ``seconds``. A line whose package is
    missing says what installs it."""
    clock, one_of = clock_of("cpu"), min if least else statistics.median
    forward, whole, name = network()
    clock(whole, 1)
    sampling, training = (statistics.median(clock(run, 1) for _ in range(3)) for run in (forward, whole))
    yield f"| work | size | theirs | ours | theirs / ours | extra memory | share of the step with {name} |"
    yield "|---|---|---|---|---|---|---|"
    for title, shape, build, steps in lines:
        try:
            sides = dict(zip(("theirs", "ours"), build(), strict=True))
        except rivals.Missing as missing:
            yield f"| {title} | {'x'.join(map(str, shape))} | {missing} |"
            continue
        samples = take_turns(sides, seconds, clock)
        time = {side: one_of(taken) / calls / steps for side, (calls, taken) in samples.items()}
        memory = [extra_bytes(run, "cpu") for run in sides.values()]
        share = ""
        if shape == SMALL:
            whole = training if "loss" in title else sampling
            share = " -> ".join(f"{100 * t / (t + whole):.2f} %" for t in time.values())
        milliseconds = [f"{1e3 * t:.3f} ms" for t in time.values()]
        cells = [
            title,
            "x".join(map(str, shape)),
            *milliseconds,
            f"**{time['theirs'] / time['ours']:.2f}x**",
            " / ".join(f"{m / 2**20:.1f}" for m in memory) + " MiB",
            share,
        ]
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pyebm.benchmarks.integrations", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")
    parser.add_argument("--least", action="store_true", help="times are the least, not the medians")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for lines in (LINES, NAMED, CONSIDERED):
        for line in table(lines, least=given.least):
            print(line, flush=True)
        print()
