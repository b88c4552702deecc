"""``python -m pyebm sample CONFIG --ids 0-49999 --out DIR``: :func:`pyebm.distributed.sample` from
the command line.

CONFIG is a Python file that defines the arguments of that function by their names: ``sampler``,
``shape``, ``noise``, ``batch`` and, if wanted, ``n_steps``, ``init`` and ``format``.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from pathlib import Path

import torch

from .sampling import run as run_job

_NEEDED, _MORE = ("sampler", "shape", "noise", "batch"), {"n_steps": None, "init": None, "format": "npz"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        type=Path,
        help="a Python file that sets sampler, shape, noise, batch; n_steps, init, format",
    )
    parser.add_argument("--ids", required=True, help="the samples: 0-49999, or 0-9,20,30-39")
    parser.add_argument(
        "--out", required=True, type=Path, help="a new folder, or that of the same run, which then goes on"
    )
    parser.add_argument("--any-batch", action="store_true", help="don't fill up the last micro-batch")
    parser.add_argument(
        "--save-every", type=float, default=60.0, metavar="S", help="seconds between a chain's states (60)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="of each process (1); a network's bits may depend on it"
    )
    parser.add_argument("--progress", action="store_true", help="a bar for all processes (needs rich)")


def run(options: argparse.Namespace) -> int:
    if options.threads < 1:
        raise ValueError(f"sample: --threads must be >= 1, got {options.threads}")
    torch.set_num_threads(options.threads)
    text = options.config.read_text()
    sys.path.insert(0, str(options.config.resolve().parent))  # as `python CONFIG` would
    names = runpy.run_path(str(options.config), run_name="pyebm_config")
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise ValueError(
            f"sample: {options.config} must set {', '.join(_NEEDED)}; it has no {', '.join(missing)}"
        )
    made = run_job(
        **{name: names[name] for name in _NEEDED},
        **{name: names.get(name, default) for name, default in _MORE.items()},
        ids=options.ids,
        out=options.out,
        any_batch=options.any_batch,
        save_every=options.save_every,
        progress=options.progress,
        about={"config": text, "threads": options.threads},
    )
    if os.environ.get("RANK", "0") == "0":
        print(
            f"{options.out}: {made.samples} samples, {made.found} of them found, {made.samples - made.found}"
            f" made by {made.ranks} process(es) in {made.seconds:.1f} s; {made.resumed} micro-batch(es) went"
            " on from the middle"
        )
    return 0
