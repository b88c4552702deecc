"""The C++ header of the ops' arguments is what tools/op_args.py makes of pyebm/_schemas.py."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_header_is_current():
    spec = importlib.util.spec_from_file_location("op_args", ROOT / "tools/op_args.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.HEADER.read_text() == module.text(), "run python tools/op_args.py"
