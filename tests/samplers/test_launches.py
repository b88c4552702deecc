"""docs/samplers.md says which calls are one launch. Here the dispatcher's operations are counted: a
loop has more of them in a longer run, one launch has not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import normal
from learned_cases import mlp
from target_cases import make
from torch.utils._python_dispatch import TorchDispatchMode

from pyebm import Noise
from pyebm.samplers import HMC, MALA, VE, AnnealedLangevin, Langevin, PredictorCorrector, UnderdampedLangevin
from pyebm.targets import GaussianMixture, MLPEnergy, MLPScore

TABLE = Path(__file__).resolve().parents[2] / "docs/samplers.md"
COLUMNS = ("Langevin", "UnderdampedLangevin", "MALA, HMC", "AnnealedLangevin", "PredictorCorrector")
SHORT, LONG, WHOLE = 4, 12, 24  # steps; WHOLE is the length of a schedule that has one

X = 0.5 * normal(5, 3)
WELL = make("double_well", 3)
LEVEL = MLPScore(mlp(4, 3), condition=1)
SIZES = [0.05] * (WHOLE + 1)
ROWS: dict[str, dict[str, Any]] = {
    "a closed form": {},
    "a mixture or a Gaussian": {"around": GaussianMixture(normal(9, 3, seed=4), 0.7)},
    "`MLPEnergy`": {"around": MLPEnergy(mlp(3, 1), 0.5), "at_levels": MLPEnergy(mlp(4, 1), 0.5, condition=1)},
    "`MLPScore`": {"around": MLPScore(mlp(3, 3)), "at_levels": LEVEL},
    "`given(c)`": {"around": MLPEnergy(mlp(4, 1), 0.5, condition=1).given(0.3)},
    "large samples": {"x0": 0.1 * normal(2, 1100), "at_levels": MLPScore(mlp(1101, 1100), condition=1)},
    "thin": {"thin": 2},
    "mask": {"mask": X > 0},
    "mask, known": {"mask": X > 0, "known": normal(5, 3, seed=2)},
    "clamp": {"clamp": (-2.0, None)},
    "clamp by element": {"clamp": (-torch.arange(1.0, 4.0), None)},
    "score_clip": {"score_clip": 1.0},
    "step sizes by step": {"step_size": SIZES},
    "temperatures by step": {"temperature": lambda k: 1 + k},
    "step sizes by sample": {"step_size": torch.linspace(0.01, 0.05, 5)},
    "noise_scale": {"noise_scale": 0.1},
    "mass": {"mass": torch.tensor([0.5, 1.0, 2.0])},
    "warmup": {"warmup": 20},
    'warmup, per="batch"': {"warmup": 20, "per": "batch"},
    "warmup, adapt_mass": {"warmup": 20, "adapt_mass": True},
    "callback": {"callback": lambda *_: None},
    "your own function": {"around": lambda x: x.square().sum(1), "at_levels": lambda x, _: -x},
}


def scores(around: Any) -> Any:
    return around if hasattr(around, "score") else lambda x: -x


def annealed(around: Any, step_size: Any, **options: Any) -> AnnealedLangevin:
    del step_size  # which its levels give
    return AnnealedLangevin(around, [1.0, 0.5], 0.01, WHOLE // 2, **options)


def corrected(around: Any, step_size: Any, **options: Any) -> PredictorCorrector:
    del step_size
    return PredictorCorrector(around, VE(), WHOLE, per="sample", **options)


MAKE: dict[str, tuple[Callable[..., Any], ...]] = {
    "Langevin": (lambda around, *args, **options: Langevin(scores(around), *args, **options),),
    "UnderdampedLangevin": (
        lambda around, *args, **options: UnderdampedLangevin(scores(around), *args, **options),
    ),
    "MALA, HMC": (MALA, lambda around, size, **options: HMC(around, size, 2, **options)),
    "AnnealedLangevin": (annealed,),
    "PredictorCorrector": (corrected,),
}


class Counted(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        del types
        self.count += 1
        return func(*args, **(kwargs or {}))


def cells() -> dict[tuple[str, str], str]:
    lines = TABLE.read_text().partition("| on the CPU |")[2].splitlines()
    found = {}
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        row, *values = (cell.strip() for cell in line.strip("|").split("|"))
        found |= {(row, column): value for column, value in zip(COLUMNS, values, strict=True)}
    return found


CELLS = cells()


def test_the_table_has_every_row():
    assert [row for row, column in CELLS if column == COLUMNS[0]] == list(ROWS)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", ROWS)
def test_launches(row, column):
    options, said = dict(ROWS[row]), CELLS[row, column]
    if not said:
        pytest.skip("this sampler has no such option or target")
    of_levels = column in COLUMNS[3:]
    x0, around = options.pop("x0", X), options.pop("around", WELL)
    at_levels, size = options.pop("at_levels", LEVEL), options.pop("step_size", 0.05)
    call = {name: options.pop(name) for name in ("thin", "callback") if name in options}
    for make_one in MAKE[column]:
        sampler, counts = make_one(at_levels if of_levels else around, size, **options), []
        for n_steps in (SHORT, LONG):
            with Counted() as counted:
                sampler(x0, n_steps, noise=Noise(0), **call)
            counts.append(counted.count)
        assert (counts[0] == counts[1]) == (said == "yes"), counts
