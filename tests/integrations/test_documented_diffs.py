"""Every diff of docs/integrations*.md applies to a small program with the repository's call sites,
and what it makes runs."""

from __future__ import annotations

import contextlib
import importlib
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cases import assert_equal, normal
from peers import package
from repositories import FILES
from sdes import SDES

from pyebm import Noise
from pyebm.integrations import edm, ncsnv2, score_sde

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = "".join((DOCS / name).read_text() for name in ("integrations.md", "integrations-research.md"))
DIFFS = {
    section.partition("\n")[0]: diff
    for section in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:]
    for diff in re.findall(r"```diff\n(.*?)```", section, flags=re.DOTALL)
}
SHAPE = (4, 3, 8, 8)
SOLO = SimpleNamespace(process_index=0, accumulate=lambda _: contextlib.nullcontext())


class Net(torch.nn.Module):
    def forward(self, x, *_, **__):
        return -0.5 * x


@pytest.fixture
def patched(tmp_path, monkeypatch):
    """Writes the program of a section, and applies the section's diff; its modules can be imported
    until the test ends. Returns the folder."""
    before = set(sys.modules)

    def make(section):
        if not shutil.which("git"):
            pytest.skip("git is not installed")
        folder = tmp_path / re.sub(r"\W+", "_", section)
        for name, text in FILES[section].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (folder / "a.diff").write_text(DIFFS[section])
        apply = ["git", "apply", "--unidiff-zero", "a.diff"]
        ran = subprocess.run(apply, cwd=folder, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        monkeypatch.syspath_prepend(str(folder))
        return folder

    yield make
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    for name in ("losses", "models", "runners", "torch_utils"):  # folders without an __init__
        sys.modules.pop(name, None)


def test_every_diff_has_a_program():
    assert DIFFS.keys() == FILES.keys()
    assert DOCUMENT.count("```diff") == len(FILES)


@pytest.mark.parametrize("section", FILES)
def test_it_applies(section, patched):
    """Each hunk changes the program, and what comes of it is Python."""
    folder = patched(section)
    named = re.findall(r"^\+\+\+ b/(.*)$", DIFFS[section], flags=re.MULTILINE)
    assert named
    for name in named:
        text = (folder / name).read_text()
        compile(text, name, "exec")
        assert text != FILES[section][name]
    added = re.findall(r"^\+(?!\+\+ b/)(.*)$", DIFFS[section], flags=re.MULTILINE)
    whole = "".join((folder / name).read_text() for name in named)
    assert all(line in whole for line in added)


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_training_with_diffusers(gamma, patched, monkeypatch):
    diffusers = package("diffusers")
    monkeypatch.syspath_prepend(str(patched("diffusers: training") / "examples/text_to_image"))
    program = importlib.import_module("train_text_to_image")
    x, scheduler = normal(*SHAPE), diffusers.DDPMScheduler()
    for kind, step in ((None, 3), ("v_prediction", 3), ("v_prediction", 4)):
        args = SimpleNamespace(
            seed=5,
            gradient_accumulation_steps=1,
            train_batch_size=4,
            input_perturbation=0,
            prediction_type=kind,
            snr_gamma=gamma,
        )
        torch.manual_seed(3)
        (got,) = program.train(args, SOLO, Net(), scheduler, [x], global_step=step)
        torch.manual_seed(3)
        times = torch.randint(0, 1000, (4,))
        z = Noise(5, step=step).randn(SHAPE)
        pred = -0.5 * scheduler.add_noise(x, z, times)
        target = z if kind is None else scheduler.get_velocity(x, z, times)
        errors = (pred - target).square().flatten(1).mean(1)
        if gamma is not None:
            abar = scheduler.alphas_cumprod[times]
            snr = abar / (1 - abar)
            errors = errors * snr.clamp(max=gamma) / snr
        torch.testing.assert_close(got, errors.mean(), rtol=1e-4, atol=1e-5)


def test_sampling_with_diffusers(patched, tmp_path):
    diffusers = package("diffusers")
    unet = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "saved")
    folder = patched("diffusers: sampling")
    made = runpy.run_path(str(folder / "sample.py"), {"path": tmp_path / "saved"})
    assert type(made["pipe"].scheduler).__module__.startswith("pyebm.")
    assert made["pipe"].scheduler.noise == Noise(0, stream=1)
    assert made["images"].shape == (2, 8, 8, 3)


def test_training_with_k_diffusion(patched):
    package("k_diffusion")
    from pyebm.integrations.k_diffusion import Denoiser

    patched("k-diffusion")
    program = importlib.import_module("train")
    config = {
        "model": {
            "sigma_data": 0.5,
            "loss_weighting": "soft-min-snr",
            "sigma_sample_density": {"type": "lognormal", "mean": -1.2, "std": 1.2},
        }
    }
    x = normal(*SHAPE)
    run = [SimpleNamespace(seed=5), SOLO, config, Net(), Net()]
    torch.manual_seed(3)
    model, model_ema, (got,) = program.main(*run, [x], step=2)
    assert type(model) is type(model_ema) is Denoiser
    torch.manual_seed(3)
    sigma = program.K.config.make_sample_density(config["model"])([4])
    assert_equal(got, model.loss(x, Noise(5, step=2), sigma).mean())


def test_torchebm(patched):
    package("torchebm")
    made = runpy.run_path(str(patched("torchebm") / "train.py"))
    assert made["loss"].isfinite()
    integrator = made["sampler"].integrator
    assert [one._draws.source for one in (integrator, made["loss_fn"])] == [Noise(0), Noise(1)]
    assert integrator._draws.count == 3


def test_ebmkit(patched):
    package("ebm")
    made = runpy.run_path(str(patched("ebmkit") / "chains.py"))
    assert made["states"].isfinite().all()
    assert made["sampler"]._draws.count == 100


def test_ncsnv2(patched, capsys):
    patched("ncsnv2")
    made = importlib.import_module("runners.ncsn_runner").NCSNRunner(
        SimpleNamespace(seed=5), SimpleNamespace(training=SimpleNamespace(anneal_power=2.0))
    )
    x, sigmas = normal(*SHAPE), torch.logspace(0, -1, 3)  # the program's own
    for step in (0, 4):  # the first step, and that of a run which is resumed after four
        torch.manual_seed(3)
        loss, test_loss, seen = made.train(Net(), [x], step=step)
        torch.manual_seed(3)
        for got, stream in ((loss, 0), (test_loss, 1)):
            noise = Noise(5, step=step + 1, stream=stream)
            assert_equal(got, ncsnv2.anneal_dsm_score_estimation(Net(), x, sigmas, None, 2.0, noise=noise))
        assert len(seen) == 1
    (last,), completed, theirs = made.sample(Net(), x, x[:2])
    assert last.isfinite().all()
    assert len(completed) == 6
    assert theirs() == "theirs"
    assert len(capsys.readouterr().out.splitlines()) == 12


@pytest.mark.parametrize(("sde", "continuous"), [("ve", True), ("vp", True), ("ve", False), ("vp", False)])
def test_score_sde(sde, continuous, patched):
    patched("score_sde")
    program = importlib.import_module("run_lib")
    config = SimpleNamespace(
        seed=42, continuous=continuous, corrector="langevin", predictor="reverse_diffusion"
    )
    x, state = normal(*SHAPE), {"step": 0, "model": Net()}
    torch.manual_seed(3)
    values, sampled = program.train(config, SDES[sde], state, [x, x])
    assert sampled.isfinite().all()
    assert state["step"] == 2
    (first, evaluated), (second, _) = values
    assert len({float(value) for value in (first, evaluated, second)}) == 3
    torch.manual_seed(4)
    ((third, _),), _ = program.train(config, SDES[sde], state, [x])  # it is resumed at step 2
    torch.manual_seed(4)
    get = {
        ("ve", False): score_sde.get_smld_loss_fn,
        ("vp", False): score_sde.get_ddpm_loss_fn,
    }.get((sde, continuous), score_sde.get_sde_loss_fn)
    options = {"likelihood_weighting": False} if continuous else {}
    want = get(SDES[sde], True, reduce_mean=True, noise=Noise(42, step=2), **options)(Net(), x)
    assert_equal(third, want)


def test_edm(patched):
    patched("EDM")
    program = importlib.import_module("train")
    x = normal(*SHAPE)

    def net(x, *_, **__):
        return 0.5 * x

    for resume, step in ((None, 0), ("2", 2000)):
        loss = program.main(SimpleNamespace(precond="edm", seed=5, resume=resume))
        assert type(loss) is edm.EDMLoss
        assert_equal(loss(net, x), edm.EDMLoss(noise=Noise(5, step=step))(net, x))
    generate = importlib.import_module("generate").main
    whole, one = (generate(lambda x, _: x, seeds, "cpu") for seeds in ([1, 2, 3], [2]))
    assert_equal(one, whole[1:2])
