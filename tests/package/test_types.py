"""The types of every public name are known to a type checker that reads them as a user's does."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The packages that have the bases of adapters' classes. `make integrations` installs all of them,
# and runs this file.
PACKAGES = ("diffusers", "ebm", "k_diffusion", "torchebm")


def test_every_public_name_has_a_type():
    for name in ("pyright", *PACKAGES):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    bin = Path(sys.executable).parent
    environment = {
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(bin.parent),
        # An editable install is a hook, which a checker that runs nothing can't follow.
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--verifytypes", "pyebm", "--ignoreexternal", "--outputjson"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert "{" in done.stdout, done.stderr
    found = json.loads(done.stdout[done.stdout.index("{") :])["typeCompleteness"]["symbols"]
    assert len(found) > 900
    unknown = [
        symbol["name"]
        for symbol in found
        if symbol["isExported"] and (symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"])
    ]
    assert not unknown
