"""The examples for many processes, shortened, on two real ranks of gloo."""

from __future__ import annotations

import importlib.util
import os
import runpy
import warnings
from pathlib import Path

import many_processes
import numpy as np
import pytest
import torch.distributed as dist
from peers import package

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo here"
)


def run(name, shortened):
    os.environ |= {"LOCAL_RANK": os.environ["RANK"], "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "one"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other packages' warnings
        made = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](**shortened)
    return made, dist.is_initialized() and dist.get_world_size()


@pytest.mark.slow  # their imports; test_examples runs both with one process
@pytest.mark.parametrize("name", ["accelerate", "lightning"])
def test_training(name):
    package(name)
    package("sklearn")
    for result in many_processes.run(2, run, f"{name}_digits", {"epochs": 3}):
        assert isinstance(result, tuple), result
        losses, _ = result
        assert sum(losses[-3:]) < sum(losses[:3])


def test_sample_ddp(tmp_path):
    package("sklearn")
    given = {"pictures": 5, "batch": 2}
    results = many_processes.run(2, run, "sample_ddp_digits", given | {"out": str(tmp_path / "two")})
    assert results == [(tmp_path / "two.npz", 2)] * 2, results
    main = runpy.run_path(str(EXAMPLES / "sample_ddp_digits.py"))["main"]
    alone = np.load(main(**given, out=str(tmp_path / "one")))["arr_0"]
    assert alone.shape == (5, 8, 8, 1)
    assert (alone == np.load(tmp_path / "two.npz")["arr_0"]).all()


def test_ray():
    pytest.importorskip("ray")
    package("sklearn")
    assert runpy.run_path(str(EXAMPLES / "ray_digits.py"))["main"](samples=20, batch=5).shape == (20, 64)


def test_ray_is_missing():
    if importlib.util.find_spec("ray") is not None:
        pytest.skip("it is here")
    package("sklearn")
    with pytest.raises(SystemExit, match="needs Ray: pip install 'ray"):
        runpy.run_path(str(EXAMPLES / "ray_digits.py"))
