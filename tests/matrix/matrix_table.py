"""Each cell of the table: right, a constant to autograd, refused in words, or not applicable; and
the page that shows it.

``PYTHONPATH=tests python tests/matrix/matrix_table.py`` writes the table into docs/pytorch.md.
test_matrix.py holds every cell, and the page.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adapter_calls  # noqa: F401  (its calls are registered by the import)
import pytest
from calls import CALLS, Call
from columns import COLUMNS

PAGE = Path(__file__).parents[2] / "docs" / "pytorch.md"
BEGIN, END = "<!-- the table, by tests/matrix/matrix_table.py -->", "<!-- end of the table -->"


@dataclass(frozen=True)
class Cell:
    shown: str
    refusal: str | None = None
    """What the error says after the call's name, a regular expression."""


RIGHT, CONSTANT, NOT_APPLICABLE = Cell("right"), Cell("constant"), Cell("n/a")


def refused(refusal: str) -> Cell:
    return Cell("refused", refusal)


IN_PLACE = refused("x must not require grad; use langevin_step, which is differentiable")
A_BATCH = refused(r"x0 must not be a batch of torch\.vmap; give all samples as one batch")
A_GRADIENT = refused("the gradient of energy_fn can't be exported with strict=True; use strict=False")
A_JACOBIAN = refused("the gradient of fn can't be exported with strict=True; use strict=False")

ON_META = refused(r"\w+ must hold numbers, got a tensor on meta")
# diffusers' schedulers are read on the host, and ebmkit takes its gradient itself, by autograd in
# the surrounding mode.
SCHEDULERS = dict.fromkeys(("diffusers: add_noise, loss", "diffusers: DDPMScheduler.step"), NOT_APPLICABLE)
EBMKIT = {"ebmkit: LangevinDynamics.step": NOT_APPLICABLE}

# The cells that are not plainly right, for each column: those of a call by its name, else those of
# its kind, else those of all calls.
OTHERS: dict[str, dict[str, Cell]] = {
    "grad": {"langevin_step_": IN_PLACE, "draw": CONSTANT, "sampler": CONSTANT, **EBMKIT},
    "grad of grad": {"langevin_step_": IN_PLACE, "draw": CONSTANT, "sampler": CONSTANT, **EBMKIT},
    "jvp": {
        **EBMKIT,
        "draw": CONSTANT,
        "sampler": refused("x0 must not have a forward-mode tangent, which this call would drop"),
    },
    "vmap": {"sampler": A_BATCH, **EBMKIT},
    "functional_call": EBMKIT,
    "compile": SCHEDULERS | EBMKIT,
    "compile, dynamic": SCHEDULERS | EBMKIT,
    "export": SCHEDULERS,
    "inference_mode": EBMKIT,
    "meta": dict.fromkeys(SCHEDULERS, ON_META),
    "vmap of grad": {**EBMKIT, "langevin_step_": IN_PLACE, "draw": CONSTANT, "sampler": A_BATCH},
    "export, strict": {
        **SCHEDULERS,
        **EBMKIT,
        "energy_score": A_GRADIENT,
        "MALA": A_GRADIENT,
        "HMC": A_GRADIENT,
        "score_matching": A_JACOBIAN,
        "sliced_score_matching": A_JACOBIAN,
    },
    "subclass that dispatches": {
        "energy_score": RIGHT,
        "Target.energy": RIGHT,
        "Target.log_prob": RIGHT,
        "draw": NOT_APPLICABLE,
        "all": refused(
            r"\w+ must be a plain tensor or a DTensor, got TwoTensor, which has operations of its own"
        ),
    },
    "DTensor": {
        **EBMKIT,
        "draw": NOT_APPLICABLE,
        "sampler": refused(r"x0 must be a plain tensor here, got a DTensor; give its to_local\(\)"),
    },
}

ADAPTERS = "Adapters"
PARTS = {
    "Functions and losses": ("function", "in place", "loss"),
    "Targets and draws": ("target", "draw"),
    "Samplers": ("sampler",),
    ADAPTERS: (),
}


def belongs(call: Call, title: str) -> bool:
    return title == ADAPTERS if call.package is not None else call.kind in PARTS[title]


def cell(call: str, column: str) -> Cell:
    others = OTHERS.get(column, {})
    for key in (call, CALLS[call].kind, "all"):
        if key in others:
            return others[key]
    return RIGHT


# Compilations take most of the time; the plain columns of the same compilers run always.
SLOW = ("compile, dynamic", "export, strict")


def cells(wanted: Callable[[Call], bool]) -> list[Any]:
    """The applicable cells of the calls that are wanted, as parameters: (column, call)."""
    return [
        pytest.param(column, name, marks=pytest.mark.slow if column in SLOW else ())
        for column in COLUMNS
        for name, call in CALLS.items()
        if wanted(call) and cell(name, column) is not NOT_APPLICABLE
    ]


def page() -> str:
    """The part of docs/pytorch.md that is made from the tests."""
    lines = []
    for title in PARTS:
        calls = [name for name, call in CALLS.items() if belongs(call, title)]
        lines += [
            f"### {title}",
            "",
            "| | " + " | ".join(f"`{name}`" for name in calls) + " |",
            "|---" * (len(calls) + 1) + "|",
        ]
        lines += [
            f"| {column} | " + " | ".join(cell(name, column).shown for name in calls) + " |"
            for column in COLUMNS
        ]
        lines.append("")
    lines += ["### How a cell is tested", ""]
    for column, check in COLUMNS.items():
        lines += textwrap.wrap(
            f"- **{column}** {inspect.getdoc(check)}", 100, subsequent_indent="  ", break_on_hyphens=False
        )
    return "\n".join([BEGIN, "", *lines, "", END])


def committed() -> re.Match[str]:
    found = re.search(f"{re.escape(BEGIN)}.*{re.escape(END)}", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"{PAGE} has no place for the table"
    return found


if __name__ == "__main__":
    place = committed()
    PAGE.write_text(place.string[: place.start()] + page() + place.string[place.end() :])
