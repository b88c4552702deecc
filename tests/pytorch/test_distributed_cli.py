"""``python -m pyebm sample``: one process and torchrun's two write the same bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import fresh
import pytest
import torch
import torch.distributed as dist

from pyebm.__main__ import main

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIG = """
import weights
import torch, pyebm

sampler = pyebm.samplers.Langevin(weights.score, 0.1)
shape, noise, batch, n_steps = (1, 2, 2), pyebm.Noise(3), 4, 20
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes a config, and beside it a module that it imports."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "weights.py").write_text("import torch\n\ndef score(x):\n    return -x\n")
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    threads = torch.get_num_threads()
    yield path
    sys.modules.pop("weights", None)
    torch.set_num_threads(threads)


def contents(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo here")
def test_torchrun(config, tmp_path, capsys):
    arguments = ["sample", str(config), "--ids", "0-9,40", "--out"]
    assert main([*arguments, str(tmp_path / "one")]) == 0
    assert "11 samples, 0 of them found, 11 made by 1 process(es)" in capsys.readouterr().out
    assert torch.get_num_threads() == 1
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "pyebm",
    ]
    done = subprocess.run(
        [*command, *arguments, str(tmp_path / "two")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "11 samples, 0 of them found, 11 made by 2 process(es)" in done.stdout
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    main([*arguments, str(tmp_path / "two"), "--save-every", "1"])
    assert "11 samples, 11 of them found, 0 made by 1 process(es)" in capsys.readouterr().out


FALLS = """
import os, pathlib, torch, pyebm

def score(x):
    fallen = pathlib.Path("{folder}/fallen")
    begun = list(pathlib.Path("{folder}/out").glob("samples-*"))
    if os.environ["RANK"] == "1" and begun and not fallen.exists():
        fallen.touch()
        os.kill(os.getpid(), 9)
    return -x

sampler = pyebm.samplers.Langevin(score, 0.1)
shape, noise, batch, n_steps = (2,), pyebm.Noise(3), 4, 50
"""


@pytest.mark.slow
@pytest.mark.usefixtures("config")
def test_torchrun_starts_fallen_ranks_again(tmp_path, monkeypatch):
    """As in docs/distributed.md's Kubernetes file: the ranks come again and skip what is
    finished."""
    (tmp_path / "config.py").write_text(FALLS.replace("{folder}", str(tmp_path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--max-restarts=3", "-m", "pyebm", "sample", str(tmp_path / "config.py"), "--ids", "0-29"]
    command += ["--out", str(tmp_path / "out")]
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "fallen").exists()
    found = int(re.search(r"30 samples, (\d+) of them found", done.stdout)[1])
    assert 0 < found < 30
    monkeypatch.setenv("RANK", "0")
    main(["sample", str(tmp_path / "config.py"), "--ids", "0-29", "--out", str(tmp_path / "alone")])
    assert contents(tmp_path / "alone") == contents(tmp_path / "out")


def test_config(config, tmp_path):
    arguments = ["sample", str(config), "--ids", "0-3", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--progress"]) == 0
    with pytest.raises(ValueError, match="threads: it has 1, got 2"):
        main([*arguments, "--threads", "2"])
    config.write_text(CONFIG + "# the same, and yet another text\n")
    with pytest.raises(
        ValueError, match="config: the config's text is not the one that this folder was begun with"
    ):
        main(arguments)
    config.write_text("shape = (2,)")
    with pytest.raises(
        ValueError, match=r"config.py must set sampler, shape, noise, batch; it has no sampler, noise, batch"
    ):
        main(arguments)
    with pytest.raises(ValueError, match="--threads must be >= 1, got 0"):
        main([*arguments, "--threads", "0"])
    config.write_text(CONFIG)
    with pytest.raises(ValueError, match=r"give --ids, or set samples in .*config.py"):
        main(["sample", str(config)])


def test_without_torch_distributed(config, tmp_path):
    """One process imports none of the modules that several processes need."""
    given = ["sample", str(config), "--ids", "0-3", "--out", str(tmp_path / "out")]
    source = f"""
import sys, torch
before = set(sys.modules)
from pyebm.__main__ import main
main({given!r})
print([name for name in set(sys.modules) - before if name.startswith("torch.distributed")])
"""
    done = fresh.python("-c", source)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["sample_digits", "generate_digits"])
@pytest.mark.usefixtures("config")
def test_examples(name, tmp_path):
    """The examples' pictures are digits: each is near a digit of the data."""
    digits = pytest.importorskip("sklearn.datasets").load_digits().images
    image = pytest.importorskip("matplotlib.image")
    assert main(["sample", str(EXAMPLES / f"{name}.py"), "--ids", "5-8", "--out", str(tmp_path / "out")]) == 0
    with zipfile.ZipFile(tmp_path / "out" / "samples-000000.zip") as archive:
        assert archive.namelist()[:4] == [f"{one:010d}.png" for one in range(5, 9)]
        pictures = [torch.from_numpy(image.imread(archive.open(one))) for one in archive.namelist()[:4]]
    data = torch.from_numpy(digits).float() / 16
    for picture in pictures:
        assert (picture - data).square().mean((1, 2)).sqrt().min() < 0.2
