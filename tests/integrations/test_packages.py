"""The adapters name a package that is missing or of another version, and `import pyebm` imports
no package."""

from __future__ import annotations

import re
from pathlib import Path

import fresh
import pytest

from pyebm.integrations import _packages

ROOT = Path(__file__).parents[2]


def test_pyebm_imports_none_of_them():
    """The modules that need no package don't import one either."""
    names = [*_packages.TESTED, "lightning", "pytorch_lightning", "accelerate", "numpy.testing"]
    code = (
        "import sys, pyebm; assert 'pyebm.integrations' not in sys.modules\n"
        "import pyebm.integrations\n"
        f"print([name for name in {names} if name in sys.modules])"
    )
    ran = fresh.python("-c", code, cwd="/")
    assert ran.stdout.strip() == "[]", ran.stderr


@pytest.mark.parametrize("module", _packages.TESTED)
def test_missing_package(module, monkeypatch):
    monkeypatch.setattr(_packages.importlib.util, "find_spec", lambda _: None)
    distribution, _, _, extra = _packages.TESTED[module]
    message = f"needs {distribution}, which is not installed: pip install 'pyebm-kernels[{extra}]'"
    with pytest.raises(ImportError, match=re.escape(message)):
        _packages.require(module)


@pytest.mark.parametrize("found", ["0.8.8", "0.9", "0.9.0", "1.0"])
def test_unknown_version(found, monkeypatch):
    monkeypatch.setattr(_packages.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(_packages.importlib, "import_module", lambda name: name)
    monkeypatch.setattr(_packages, "version", lambda _: found)
    with pytest.warns(
        RuntimeWarning, match=rf"tested with torchebm >= 0\.8\.9, < 0\.9; found {re.escape(found)}"
    ):
        assert _packages.require("torchebm") == "torchebm"


@pytest.mark.parametrize("found", ["0.8.9", "0.8.10", "0.8.9.post1"])
def test_known_version(found, monkeypatch):
    """A tested version gives no warning (a warning would be an error here)."""
    monkeypatch.setattr(_packages.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(_packages.importlib, "import_module", lambda name: name)
    monkeypatch.setattr(_packages, "version", lambda _: found)
    assert _packages.require("torchebm") == "torchebm"


@pytest.mark.parametrize("module", _packages.TESTED)
def test_the_extras_say_the_same(module):
    distribution, first, beyond, extra = _packages.TESTED[module]
    (requirements,) = re.findall(
        rf"^{extra} = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), flags=re.M | re.S
    )
    assert f'"{distribution}>={first},<{beyond}"' in requirements
