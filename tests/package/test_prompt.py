"""At the prompt: a job in JSON, a picture of its samples, and errors of a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fresh
import pytest
import torch

import pyebm
from pyebm.__main__ import console, main
from pyebm.distributed import cli

MIXTURE = Path(__file__).parents[2] / "examples/mixture.json"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def job(path, **more):
    path.write_text(json.dumps({"target": {"name": "DoubleWell"}, "samples": 20, "n_steps": 30} | more))
    return path


def said_by(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["pyebm", *map(str, arguments)])
    return console(), capsys.readouterr().err.splitlines()


def test_the_example_draws_its_mixture(here, capsys):
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("matplotlib")
    assert main(["sample", str(MIXTURE), "--plot"]) == 0
    assert "out/mixture: 4000 samples" in capsys.readouterr().out
    assert (here / "out/mixture.png").stat().st_size > 20_000
    (file,) = (here / "out/mixture").glob("*.npz")
    x = torch.from_numpy(numpy.load(file)["x"])
    described = json.loads(MIXTURE.read_text())["target"]
    nearest = torch.cdist(x, torch.tensor(described["means"])).argmin(1)
    assert all((nearest == k).float().mean() > 0.1 for k in range(3))


def test_a_job_in_json_is_the_call(here):
    numpy = pytest.importorskip("numpy")
    described = {"name": "HMC", "step_size": 0.2, "n_leapfrog": 3}
    path = job(here / "job.json", sampler=described, dim=3, seed=5, spread=2.0)
    assert main(["sample", str(path), "--out", "made"]) == 0
    sampler = pyebm.samplers.HMC(pyebm.targets.DoubleWell(), 0.2, 3)
    pyebm.distributed.sample(
        sampler,
        (3,),
        ids=range(20),
        noise=5,
        batch=20,
        n_steps=30,
        out="called",
        init=lambda ids, noise: 2 * noise.randn((len(ids), 3)),
    )
    made, called = (numpy.load(f"{out}/samples-000000.npz")["x"] for out in ("made", "called"))
    assert (made == called).all()


@pytest.mark.parametrize(
    ("shape", "format"),
    [((1,), "npz"), ((5,), "npz"), ((1, 4, 4), "png"), ((3, 4, 4), "png"), ((4, 4), "npz")],
)
def test_a_picture_of_samples_of_any_shape(shape, format, here):
    pytest.importorskip("matplotlib")
    config = here / "config.py"
    config.write_text(
        "import pyebm\ntarget = pyebm.targets.Harmonic()\nsampler = pyebm.samplers.Langevin(target, 0.1)\n"
        f"shape, noise, batch, n_steps, samples, format = {shape}, 0, 8, 3, 12, {format!r}\n"
    )
    assert main(["sample", str(config), "--plot"]) == 0
    assert (here / "out/config.png").exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is no JSON"),
        ("[]", 'must be an object with "target"'),
        ('{"target": {"name": "DoubleWell"}, "steps": 3}', 'must be an object with "target"'),
        ('{"target": {"name": "MLPEnergy"}}', "target's name must be one of"),
        ('{"target": {"name": "DoubleWell", "depth": 3}}', "DoubleWell can't be made of these.*'depth'"),
        ('{"target": {"name": "GaussianMixture"}}', "GaussianMixture can't be made of these.*'means'"),
        ('{"target": {"name": "DoubleWell"}, "samples": 0}', "samples must be >= 1"),
        ('{"target": {"name": "DoubleWell"}, "spread": "wide"}', "spread must be a number"),
    ],
)
def test_a_wrong_job_is_refused_in_words(text, match, here):
    (here / "job.json").write_text(text)
    with pytest.raises((TypeError, ValueError), match=match):
        main(["sample", "job.json"])


def test_an_error_is_two_lines(here, monkeypatch, capsys):
    code, lines = said_by(monkeypatch, capsys, "sample", "missing.py", "--ids", "0-9")
    assert code == 1
    assert len(lines) == 2
    assert "missing.py" in lines[0]
    (here / "config.py").write_text("import torch\n\nshape = torch.zeros(2, 3) @ torch.zeros(4)\n")
    code, lines = said_by(monkeypatch, capsys, "sample", "config.py", "--ids", "0-9")
    assert code == 1
    assert "config.py:3: RuntimeError:" in lines[0]
    with pytest.raises(RuntimeError):
        said_by(monkeypatch, capsys, "--traceback", "sample", "config.py", "--ids", "0-9")


def test_ctrl_c_is_a_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pyebm, "show_versions", interrupted)
    assert said_by(monkeypatch, capsys, "info") == (130, ["pyebm: interrupted"])


def test_somebody_who_looks_on_sees_a_bar(here, monkeypatch):
    pytest.importorskip("rich")
    seen = []
    monkeypatch.setattr(cli, "run_job", lambda **given: seen.append(given["progress"]) or _Made)
    path = str(job(here / "job.json"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    main(["sample", path])
    main(["sample", path, "--no-progress"])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    main(["sample", path])
    assert seen == [True, False, False]


class _Made:
    samples = found = resumed = ranks = 1
    seconds = 0.0


def test_the_bar_moves_within_a_micro_batch(here, monkeypatch):
    rich = pytest.importorskip("rich.progress")
    moved = []
    monkeypatch.setattr(rich.Progress, "advance", lambda _self, _task, count: moved.append(count))
    monkeypatch.setattr("pyebm.distributed.sampling._EVERY", 0.0)
    main(["sample", str(job(here / "job.json", n_steps=1000)), "--progress"])
    assert sum(moved) == pytest.approx(1)
    assert len(moved) >= 100


def test_the_module_has_the_commands_errors():
    done = fresh.python("-m", "pyebm", "sample", "missing.json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
