"""diffusers' schedulers beside ours of the same names: the update of one sampling step, for a
given network output."""

from __future__ import annotations

import importlib
from typing import Any

import pyebm

from .case import BFLOAT, NOISE, TOLERANCE, Setting, Work, benchmark, grid
from .rivals import get
from .timing import Run

FORMS = ("DDPM step", "SDE-VE step_pred", "SDE-VE step_correct")
SETTINGS = [
    setting
    for form in FORMS
    for setting in (
        *grid((16, 4, 64, 64), variant=form, threads=(2,), quick=True, headline=form == "DDPM step"),
        *grid((256, 3, 64, 64), variant=form, threads=(2,)),
        *grid((16, 4, 64, 64), variant=form, threads=(2,), dtypes=(BFLOAT,) if form == "DDPM step" else ()),
    )
]


@benchmark(
    "schedulers",
    "a scheduler's step, diffusers' own beside pyebm.integrations.diffusers' of the same name",
    SETTINGS,
)
def schedulers(at: Setting) -> Work:
    theirs = get("diffusers")
    ours = importlib.import_module("pyebm.integrations.diffusers")
    x, output = at.randn(0), at.randn(1)
    tensors = 4 if at.variant != "SDE-VE step_correct" else 3
    # The corrector's step size needs the norm of all noise before the first element may move.
    draws = 2 if at.variant == "SDE-VE step_correct" else 1
    operations = (draws * at.normal + 8) * x.numel()
    work = Work(x.numel(), tensors * x.nbytes, operations, tolerance=10 * TOLERANCE[at.dtype])

    def run(package: Any, generator: pyebm.Noise | None) -> Run:
        if at.variant == "DDPM step":
            ddpm = package.DDPMScheduler()
            ddpm.set_timesteps(50)
            return lambda: ddpm.step(output, ddpm.timesteps[20], x, generator=generator, return_dict=False)
        ve = package.ScoreSdeVeScheduler(num_train_timesteps=100, sigma_max=10.0)
        ve.set_timesteps(100)
        ve.set_sigmas(100)
        if at.variant == "SDE-VE step_pred":
            return lambda: ve.step_pred(output, ve.timesteps[50], x, generator=generator, return_dict=False)
        return lambda: ve.step_correct(output, x, generator=generator, return_dict=False)

    work.ours(lambda _: run(ours, NOISE), at.device)
    return work.side("diffusers", run(theirs, None))
