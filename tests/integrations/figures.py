"""The table of docs/integrations-figures.md, made of the comparisons that the tests make:

PYEBM_FIGURES=docs/integrations-figures.md python -m pytest tests/integrations
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from compare import COMPARED, HALF, Compared

FUNCTIONS = {
    ("test_diffusers_training", "test_loss_and_gradient"): "diffusers: add_noise, loss, its gradient",
    ("test_diffusers_add_noise", "test_half_precision"): "diffusers: add_noise of every scheduler",
    ("test_diffusers_schedulers", "test_ddpm_step"): "diffusers: DDPMScheduler.step",
    ("test_diffusers_schedulers", "test_ve_steps"): "diffusers: ScoreSdeVeScheduler's steps",
    ("test_k_diffusion", "test_loss_and_gradient"): "k-diffusion: Denoiser.loss, its gradient",
    ("test_torchebm", "test_step"): "torchebm: integrator step",
    ("test_torchebm", "test_loss_and_gradient"): "torchebm: loss, its gradient",
    (
        "test_torchebm_named",
        "test_loss_and_gradient",
    ): "torchebm: FlowMatchingLoss, EquilibriumMatchingLoss, their gradients",
    ("test_ebmkit", "test_step"): "ebmkit: LangevinDynamics.step",
    ("test_ncsnv2", "test_loss_and_gradient"): "ncsnv2: loss, its gradient",
    ("test_score_sde_losses", "test_loss_and_gradient"): "score_sde: continuous losses, their gradients",
    ("test_score_sde_losses", "test_legacy_losses"): "score_sde: SMLD and DDPM losses, their gradients",
    ("test_score_sde_sampling", "test_predictors"): "score_sde: predictors",
    ("test_score_sde_sampling", "test_precisions"): "score_sde: predictors of float64 and half states",
    ("test_score_sde_sampling", "test_correctors"): "score_sde: correctors",
    ("test_edm", "test_loss_and_gradient"): "EDM: loss, its gradient",
    ("test_edm_losses", "test_loss_and_gradient"): "EDM: VELoss, VPLoss, EDM2Loss, their gradients",
    ("test_more_schedulers", "test_every_step"): "diffusers: steps of DDIM, LCM, TCD, Euler, flow matching",
    ("test_flow_matching", "test_loss_and_gradient"): "diffusers: flow_loss, its gradient",
    ("test_k_denoisers", "test_loss_and_gradient"): "k-diffusion: other denoisers' losses, their gradients",
    ("test_k_denoisers", "test_churn"): "k-diffusion: samplers with churn, whole runs",
    ("test_k_diffusion", "test_weights_by_frequency"): "k-diffusion: Denoiser.loss with scales",
    ("test_ncsn", "test_dsm"): "ncsn: dsm, its gradient",
    ("test_ncsn", "test_dsm_score_estimation"): "ncsn: dsm_score_estimation, its gradient",
    ("test_ncsn", "test_the_loss_of_spectra"): "ncsn: anneal_dsm_score_estimation_freq, its gradient",
    ("test_ebmkit_samplers", "test_with_torchs_draws_it_is_ebmkits_run"): "ebmkit: samplers, whole runs",
    (
        "test_ebmkit_named",
        "test_whole_runs_of_the_predictor_corrector",
    ): "ebmkit: PredictorCorrector, whole runs",
}
PRECISIONS = {"float32": (torch.float32,), "float64": (torch.float64,), "half": HALF}
HEAD = (
    "| function | tensors compared |"
    + "".join(f" {name}: from theirs | from the truth (theirs) |" for name in PRECISIONS)
    + "\n|---|---|"
    + "---|---|" * len(PRECISIONS)
    + "\n"
)
START, END = "<!-- made by tests/integrations/figures.py -->\n", "<!-- end -->\n"


def table() -> str:
    """A row for each function that was compared."""
    return HEAD + "".join(row(name, COMPARED[test]) for test, name in FUNCTIONS.items() if test in COMPARED)


def row(name: str, compared: list[Compared]) -> str:
    """The worst of the comparisons in each precision."""
    cells = [name, str(len(compared))]
    for dtypes in PRECISIONS.values():
        some = [one for one in compared if one.dtype in dtypes]
        apart, ours, theirs = (
            f"{max(one[k] for one in some):.0e}".replace("0e+00", "0") if some else "" for k in (1, 2, 3)
        )
        cells += [apart, f"{ours} ({theirs})" if some else ""]
    return f"| {' | '.join(cells)} |\n"


def write(document: Path) -> None:
    """Puts the table between the document's two marks."""
    pattern = re.compile(re.escape(START) + ".*?" + re.escape(END), re.DOTALL)
    text, count = pattern.subn(lambda _: START + "\n" + table() + "\n" + END, document.read_text())
    assert count == 1, f"{document} must have the marks {START.strip()} and {END.strip()} once"
    document.write_text(text)
