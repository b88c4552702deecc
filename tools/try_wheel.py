"""The wheel in fresh environments.

    python tools/try_wheel.py WHEEL --python 3.10 3.14 --torch 2.10.0 2.13.0
    python tools/try_wheel.py --inside "qemu-aarch64 -L ROOT -E PYTHONPATH=SITE python3.11"

The first makes an environment for each pair of a Python (a version, or an interpreter's path) and
a torch, and installs the wheel with pip; the second takes what an interpreter has. Each then runs,
away from the source tree, `pyebm info`, the README's program and some tests, and keeps what came
of them in docs/results/wheels.json. docs/install.md's table is made of all that is there. It fails
if anything failed, or if a torch with CUDA can't load the wheel's CUDA library: no GPU is needed
for that.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT, PAGE = ROOT / "docs/results/wheels.json", ROOT / "docs/install.md"
MARKED = re.compile(r"(<!-- wheels -->\n).*(<!-- end of wheels -->)", re.S)
# These tests cover bits, autograd and torch.compile in half a minute.
TESTS = ("noise/test_noise_values.py", "ops/test_losses_autograd.py", "pytorch/test_compile_once.py")
# Left out: the emulator of CUDA needs the source tree, and the inductor compiles for minutes.
CHOSEN = "not emulated and not inductor"
NEEDED = ("numpy", "scipy", "pytest", "hypothesis")
FACTS = """
import json, platform, torch, pyebm
from pyebm import _ops
print(json.dumps({
    "pyebm": pyebm.__version__, "torch": torch.__version__,
    "python": platform.python_version(), "machine": platform.machine(),
    "system": " ".join(filter(None, (platform.system(), *platform.libc_ver()))),
    "simd": _ops.simd(), "why no cuda": torch.version.cuda and _ops._why_no_cuda,
    "cuda": bool(torch.version.cuda and _ops._why_no_cuda is None),
}))
"""


class Failed(Exception):
    """A command failed; the message is the end of what it said."""


def run(*command: str | Path, folder: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command, cwd=folder, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))[:200]}: {done.stdout[-3000:]}")
    return done.stdout


def environment(folder: Path, wheel: Path, python: str, torch: str, uv: str | None) -> list[str]:
    """The Python of a fresh environment with that torch, what the tests need, and the wheel."""
    python = python if shutil.which(python) else f"python{python}"
    made = str(folder / "env/bin/python")
    if uv:
        run(uv, "venv", "--quiet", "--seed", "--python", python, folder / "env", folder=folder)
        run(uv, "pip", "install", "--quiet", "--python", made, f"torch=={torch}", *NEEDED, folder=folder)
    else:
        run(python, "-m", "venv", folder / "env", folder=folder)
        run(made, "-m", "pip", "install", "--quiet", f"torch=={torch}", *NEEDED, folder=folder)
    run(made, "-m", "pip", "install", "--quiet", wheel, folder=folder)
    return [made]


def tried(python: list[str], tests: list[str], folder: Path) -> dict[str, Any]:
    """What came of the wheel that this Python has; raises Failed."""
    found: dict[str, Any] = json.loads(run(*python, "-c", FACTS, folder=folder).splitlines()[-1])
    if found["why no cuda"]:
        raise Failed(found["why no cuda"])
    del found["why no cuda"]
    found["machine"] += ", emulated" if Path(python[0]).name.startswith("qemu") else ""
    print(run(*python, "-m", "pyebm", "info", folder=folder), flush=True)
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    run(*python, "-c", program, folder=folder)
    shutil.copytree(ROOT / "tests", folder / "tests")
    options = ("-q", "-c", os.devnull, "-p", "no:cacheprovider", "-W", "ignore", "-k", CHOSEN)
    said = run(*python, "-m", "pytest", *options, *(f"tests/{name}" for name in tests), folder=folder)
    passed = re.search(r"(\d+) passed", said)
    if passed is None:
        raise Failed(said[-3000:])
    return {**found, "passed": int(passed[1])}


def key(one: dict[str, Any]) -> tuple[Any, ...]:
    def numbers(text: str) -> list[int]:
        return [int(n) for n in re.findall(r"\d+", text.partition("+")[0])]

    return one["machine"], numbers(one["python"])[:2], numbers(one["torch"])


def kept() -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(KEPT.read_text()) if KEPT.exists() else []
    return records


def keep(found: dict[str, Any]) -> None:
    """Adds the record, in the place of an older one of the same machine, Python and torch, and
    writes the page."""
    one = {**found, "date": datetime.now(timezone.utc).date().isoformat()}
    records = sorted([*(other for other in kept() if key(other) != key(one)), one], key=key)
    KEPT.write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n")
    page = PAGE.read_text()
    PAGE.write_text(MARKED.sub(lambda match: match[1] + table(records) + match[2], page))


def table(records: list[dict[str, Any]]) -> str:
    """A row for each machine and Python, a column for each torch; a cell names what passed."""
    torches = list(dict.fromkeys(one["torch"] for one in sorted(records, key=lambda one: key(one)[2])))
    rows: dict[str, dict[str, str]] = {}
    for one in records:
        row = rows.setdefault(f"{one['python']} | {one['machine']}, {one['system']}", {})
        row[one["torch"]] = f"{one['pyebm']}{', CUDA' * one['cuda']}"
    heads = " | ".join(f"torch {torch}" for torch in torches)
    lines = [f"| Python | machine | {heads} |", "|---" * (2 + len(torches)) + "|"]
    for head, row in rows.items():
        lines.append(f"| {head} | {' | '.join(row.get(torch, '') for torch in torches)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("wheel", type=Path, nargs="?")
    parser.add_argument("--python", nargs="+", default=[sys.executable])
    parser.add_argument("--torch", nargs="+", default=["2.13.0"])
    parser.add_argument("--inside", help="a command that begins a Python where the wheel is installed")
    parser.add_argument(
        "--tests", nargs="+", default=list(TESTS), help="files in tests/ (default: %(default)s)"
    )
    parser.add_argument("--uv", help="a uv that makes the environments: it links torch's gigabytes of CUDA")
    parser.add_argument("--folder", type=Path, help="where the environments are made, and deleted")
    options = parser.parse_args()
    if bool(options.wheel) == bool(options.inside):
        parser.error("a wheel, or --inside")
    pairs = [(python, torch) for torch in options.torch for python in options.python]
    failed = 0
    for python, torch in pairs if options.wheel else [(options.inside, "")]:
        with tempfile.TemporaryDirectory(dir=options.folder) as made:
            folder = Path(made)
            try:
                command = (
                    environment(folder, options.wheel.resolve(), python, torch, options.uv)
                    if options.wheel
                    else shlex.split(python)
                )
                found = tried(command, options.tests, folder)
            except Failed as why:
                print(f"FAILED: {python} {torch}: {why}", file=sys.stderr, flush=True)
                failed += 1
            else:
                keep(found)
                print(
                    f"{found['passed']} passed: Python {found['python']}, torch {found['torch']}", flush=True
                )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
