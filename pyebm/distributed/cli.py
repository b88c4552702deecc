"""``python -m pyebm sample CONFIG --ids 0-49999 --out DIR``: :func:`pyebm.distributed.sample` from
the command line.

CONFIG is a Python file that defines the arguments of that function by their names: ``sampler``,
``shape``, ``noise``, ``batch`` and, if wanted, ``n_steps``, ``init`` and ``format``; also
``samples``, how many there are without ``--ids``, and ``target``, whose density ``--plot`` draws.
Or it is a JSON file that names a target and a sampler (_described.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import runpy
import sys
from pathlib import Path

import torch

from ._described import names_of
from .sampling import run as run_job

_NEEDED, _MORE = ("sampler", "shape", "noise", "batch"), {"n_steps": None, "init": None, "format": "npz"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        type=Path,
        help="a Python file that sets sampler, shape, noise, batch; n_steps, init, format, samples, target;"
        " or a JSON file that names a target",
    )
    parser.add_argument("--ids", help="the samples: 0-49999, or 0-9,20,30-39 (CONFIG's samples)")
    parser.add_argument(
        "--out", type=Path, help="a new folder, or that of the same run, which then goes on (out/CONFIG)"
    )
    parser.add_argument(
        "--plot", action="store_true", help="a picture of the samples beside the folder (needs matplotlib)"
    )
    parser.add_argument("--any-batch", action="store_true", help="don't fill up the last micro-batch")
    parser.add_argument(
        "--save-every", type=float, default=60.0, metavar="S", help="seconds between a chain's states (60)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="of each process (1); a network's bits may depend on it"
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="a bar for all processes (needs rich; there is one on a terminal that has it)",
    )


def run(options: argparse.Namespace) -> int:
    if options.threads < 1:
        raise ValueError(f"sample: --threads must be >= 1, got {options.threads}")
    torch.set_num_threads(options.threads)
    if options.plot and importlib.util.find_spec("matplotlib") is None:  # before the work, not after it
        raise ImportError("--plot needs matplotlib: pip install 'pyebm-kernels[demo]' or matplotlib")
    text = options.config.read_text()
    if options.config.suffix == ".json":
        names = names_of(options.config)
    else:
        sys.path.insert(0, str(options.config.resolve().parent))  # as `python CONFIG` would
        names = runpy.run_path(str(options.config), run_name="pyebm_config")
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise ValueError(
            f"sample: {options.config} must set {', '.join(_NEEDED)}; it has no {', '.join(missing)}"
        )
    if options.ids is None and "samples" not in names:
        raise ValueError(f"sample: give --ids, or set samples in {options.config}")
    out = options.out or Path("out", options.config.stem)
    run = run_job(
        **{name: names[name] for name in _NEEDED},
        **{name: names.get(name, default) for name, default in _MORE.items()},
        ids=range(names["samples"]) if options.ids is None else options.ids,
        out=out,
        any_batch=options.any_batch,
        save_every=options.save_every,
        progress=_terminal() if options.progress is None else options.progress,
        about={"config": text, "threads": options.threads},
    )
    if os.environ.get("RANK", "0") == "0":
        print(
            f"{out}: {run.samples} samples, {run.found} of them found, {run.samples - run.found}"
            f" made by {run.ranks} process(es) in {run.seconds:.1f} s; {run.resumed} micro-batch(es) went"
            " on from the middle"
        )
        if options.plot:
            from ._plot import draw

            draw(out, names.get("target"), out.with_name(f"{out.name}.png"))
            print(f"{out}.png: a picture of them")
    return 0


def _terminal() -> bool:
    """Whether somebody looks on, and rich can show them a bar."""
    return sys.stdout.isatty() and importlib.util.find_spec("rich") is not None
