"""The site typesets the docstrings' formulas, and leaves code alone."""

from __future__ import annotations

import html
import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("site_formulas", ROOT / "tools/site_formulas.py")
assert SPEC
assert SPEC.loader
formulas = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(formulas)


def tree(text):
    made = formulas.typeset(text)
    assert made is not None, text
    return ElementTree.fromstring(re.sub(r"&(?!lt;|gt;|amp;)\w+;", lambda e: html.unescape(e[0]), made))


def outline(element):
    inside = "".join(map(outline, element)) or element.text or ""
    short = {"mfrac": "/", "msup": "^", "msub": "_", "msqrt": "√"}.get(element.tag)
    return f"{short}[{inside}]" if short else inside


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x <- x + eta s(x) + sqrt(2 eta T) z", "x←x+ηs\u2061(x)+√[2ηT]z"),
        ("1/2 w_b sum_i (s + z / sigma)^2", "/[12]_[wb]_[∑i]^[(s+/[zσ])2]"),
        ("g^2 s / 2", "/[^[g2]s2]"),
        ("-(x - y) / sigma^2", "−/[x−y^[σ2]]"),
        ("s_i^2 + ds_i/dx_i", "^[_[si]2]+/[_[∂si]_[∂xi]]"),
        ("(W(t1) - W(t0)) / sqrt|t1 - t0|", "/[W\u2061(_[t1])−W\u2061(_[t0])√[|_[t1]−_[t0]|]]"),
        ("step_size sqrt(abar)", "step_size√[α¯]"),
        ("grad log q(y|x)", "∇logq\u2061(y|x)"),
        ("sum_{i < D} e^-v", "_[∑i<D]^[e−v]"),
    ],
)
def test_a_formula_is_typeset(text, shown):
    assert outline(tree(text)) == shown


@pytest.mark.parametrize(
    "code",
    [
        "step_size",
        "noise.at(step=k)",
        "(B, T, 1, ...)",
        "2**32",
        "x ^ key",
        "n_steps=2",
        "info|demo",
        "a[i]^2",
    ],
)
def test_code_is_left_alone(code):
    assert formulas.typeset(code) is None
    assert formulas.formula_or(f"`{code}`") == f"`{code}`"


def test_the_docstrings_formulas_are_well_formed():
    found = {
        " ".join(code.split())
        for path in (ROOT / "pyebm").rglob("*.py")
        for code in re.findall(r"``([^`]+)``", path.read_text())
        if formulas.typeset(" ".join(code.split()))
    }
    assert len(found) > 100
    for text in found:
        tree(text)
