"""Every example runs, shortened, and does what it says."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import torch
from peers import package

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *needs, **shortened):
    for module in needs:
        package(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other packages' warnings
        return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](**shortened)


def test_every_example_is_here():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    # tests/pytorch/test_distributed_cli.py and test_examples_of_two.py run these
    elsewhere = {"sample_digits", "generate_digits", "sample_ddp_digits", "ray_digits"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested | elsewhere


def test_diffusers_digits(tmp_path):
    losses = run("diffusers_digits", "diffusers", steps=15, pictures=4, inference_steps=5, out=tmp_path)
    assert losses[-1] < losses[0]
    assert (tmp_path / "diffusers_digits.png").stat().st_size > 100


def test_k_diffusion_rings(capsys):
    x = run("k_diffusion_rings", "k_diffusion", steps=300)
    assert abs(x.norm(dim=1).mean() - 1) < 0.15
    apart = float(capsys.readouterr().out.rpartition("apart by ")[2].split()[0])
    assert apart < 1e-3


def test_torchebm_double_well():
    x = run("torchebm_double_well", "torchebm", steps=50, chain_steps=200)
    assert x.isfinite().all()


def test_ebmkit_chains():
    assert abs(run("ebmkit_chains", "ebm", steps=200).abs().mean() - 0.87) < 0.03


def test_learned_energy():
    samples, truth = run("learned_energy", steps=20, chain_steps=20, chains=50)
    assert samples.shape == truth.shape == (50, 2)


def test_ncsnv2_digits():
    package("sklearn")
    samples, completed = run("ncsnv2_digits", steps=100, n_steps_each=3)
    assert samples.shape == (64, 1, 8, 8)
    assert completed.isfinite().all()


def test_score_sde_gaussian():
    mean = run("score_sde_gaussian", steps=300, samples=300)
    assert (mean.mean(0) - torch.tensor([1.5, -0.5, 0.0, 1.0]).view(1, 2, 2)).abs().max() < 0.3


def test_edm_digits():
    package("sklearn")
    assert run("edm_digits", steps=50).isfinite().all()


def test_lightning_digits():
    losses = run("lightning_digits", "lightning", "sklearn", epochs=1)
    assert sum(losses[-3:]) < sum(losses[:3])


def test_accelerate_digits():
    losses = run("accelerate_digits", "accelerate", "sklearn", epochs=1)
    assert sum(losses[-3:]) < sum(losses[:3])
