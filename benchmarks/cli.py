"""``python -m pyebm bench``: chooses what runs and for how long, and writes the results."""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import os
import sys
import tempfile
from pathlib import Path

from . import processes, records
from .case import GROUPS, Case

# The report has the groups in this order.
MODULES = (
    *("noise", "langevin", "losses", "denoising", "chain", "targets", "mixtures"),
    *("network", "samplers", "mcmc", "schedulers", "objectives", "training", "energy_training"),
)
SECONDS, QUICK_SECONDS = 2.0, 0.5  # of each case
OK, FAILED, USAGE, UNFINISHED = 0, 1, 2, 75


def load_cases() -> list[Case]:
    for name in MODULES:
        importlib.import_module(f"pyebm.benchmarks.bench_{name}")
    return [case for group in GROUPS.values() for case in group.cases]


def select(cases: list[Case], only: list[str], quick: bool) -> list[Case]:
    """Returns the cases whose group is named or whose name matches a pattern; raises KeyError
    for a name that nothing has."""
    chosen = []
    for name in only:
        found = [
            case
            for case in cases
            if case.group == name or fnmatch.fnmatchcase(case.name, name.replace("[", "[[]"))
        ]
        if not found:
            raise KeyError(name)
        chosen += found
    chosen = [case for case in cases if case in chosen] if only else cases
    return [case for case in chosen if case.setting.quick] if quick else chosen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="the most telling cases, under two minutes")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="these groups, or cases that a pattern matches"
    )
    parser.add_argument("--list", action="store_true", help="the names that --only takes")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="OLD",
        help="fail where ours got more than 10%% slower beside the rivals: than in a report, or than in"
        " another checkout with its kernels built, measured in turn with this one",
    )
    parser.add_argument(
        "--plant",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="make ours slower by this share of its time, to see whether --compare finds it",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench"), help="for report.md, report.json and the plots"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument(
        "--simd",
        choices=("baseline", "avx2", "avx512", "neon"),
        help="hold all sides to this SIMD level (default: the machine's best)",
    )
    parser.add_argument(
        "--seconds", type=float, help=f"a case (default: {SECONDS:g}, with --quick {QUICK_SECONDS:g})"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="measure each case in N processes, one after another: the middle median, the shortest time"
        " of all (default: 1)",
    )
    parser.add_argument(
        "--check", action="store_true", help="only check that all sides do the same; nothing is timed"
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="begin no case after so long; exit code 75 if some are left",
    )
    parser.add_argument(
        "--resume", action="store_true", help="add to the report in --out what it does not have yet"
    )
    parser.add_argument(
        "--from",
        dest="sources",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="measure nothing; report on these",
    )
    parser.add_argument(
        "--readme", action="store_true", help="put the tables and plots into README.md and docs/"
    )


def run(options: argparse.Namespace) -> int:
    cases = load_cases()
    if options.list:
        for group in GROUPS.values():
            print(f"{group.name:14s} {len(group.cases):3d} cases  {group.title}")
        return OK
    try:
        cases = select(cases, options.only, options.quick)
    except KeyError as unknown:
        return _refuse(
            f"no benchmark is called {unknown.args[0]!r}; known are {', '.join(GROUPS)}, and patterns on"
            " --list's cases"
        )
    if not cases:
        return _refuse(f"none of {', '.join(options.only)} is among the cases of --quick; leave --quick out")
    if options.processes < 1:
        return _refuse(f"--processes {options.processes}: at least 1")
    if options.processes > 1 and (options.check or options.budget is not None or options.sources):
        return _refuse("--processes measures all cases N times: not with --check, --budget or --from")
    other = options.compare if options.compare and options.compare.is_dir() else None
    if other and (options.check or options.budget is not None or options.sources or options.resume):
        return _refuse("--compare with a checkout: not with --check, --budget, --resume or --from")
    if other and (why := processes.unfit(other)):
        return _refuse(f"--compare {other}: {why}")
    try:
        baseline = records.read(options.compare) if options.compare and not other else None
        known = [records.read(path) for path in options.sources or []]
        written = options.out / "report.json"
        if options.resume and written.exists():
            known.append(records.read(written))
    except records.Refused as why:
        return _refuse(str(why))
    if options.readme:
        from . import report

        unmarked = [str(path) for path, marked in report.documents(Path()).items() if not marked]
        if unmarked:
            return _refuse(
                "--readme writes between <!-- benchmarks --> and <!-- end of benchmarks -->: not in"
                f" {', '.join(unmarked)} here"
            )
    return _measure_and_report(options, cases, known, baseline)


def _measure_and_report(
    options: argparse.Namespace,
    cases: list[Case],
    known: list[records.Report],
    baseline: records.Report | None,
) -> int:
    code, pairs = OK, []
    here = processes.measure if options.processes > 1 else measure
    if options.simd and not options.sources:
        from . import machine

        try:
            machine.hold_to(options.simd)
        except (ValueError, RuntimeError) as why:
            return _refuse(f"--simd {options.simd}: {why}")
    if not options.sources:
        done = {row.case for report in known for row in records.rows(report)}
        left = [case for case in cases if case.name not in done]
        if options.compare is not None and baseline is None:
            code, measured, pairs = processes.beside(options, left, options.compare)
        else:
            code, measured = here(options, left)
        known += measured
    if options.check:
        return code
    if not known:
        print("pyebm bench: nothing was measured", file=sys.stderr)
        return code or FAILED
    from . import report

    merged = records.merge(known)
    records.write(options.out / "report.json", merged)
    report.write(options.out, merged)
    print(f"written: {options.out}/report.md, report.json and the plots")
    if options.readme:
        report.into_documents(Path(), merged)
    if options.compare is not None:
        if baseline is not None:
            pairs = [(merged, baseline)]
        worse = records.slower(pairs)
        if worse and baseline is not None and not options.sources:  # the machine may have been disturbed
            print(f"{len(worse)} cases look slower; measuring them again")
            _, again = here(options, [case for case in cases if case.name in worse])
            both = records.slower([(records.merge([merged, *again]), baseline)])
            worse = {case: how for case, how in both.items() if case in worse}
        for case, how in worse.items():
            print(f"slower: {case}: {how}")
        count = len({case for new, old in pairs for case in records.losses(new, old)})
        print(
            f"{count} cases compared with {options.compare}, {len(worse)} slower by more than"
            f" {records.ALLOWED:.0%}"
        )
        code = code or (FAILED if worse else OK)
    return code


def measure(options: argparse.Namespace, cases: list[Case]) -> tuple[int, list[records.Report]]:
    """Runs the cases under pytest-benchmark; returns the exit code, and the report if anything
    was measured."""
    if not cases:
        return OK, []
    try:
        import pytest

        from . import machine, suite
    except ImportError as error:
        return _refuse(f"the benchmarks need {error.name}: pip install 'pyebm-kernels[bench]'"), []
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        return _refuse("--device cuda, but torch finds no CUDA device"), []
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    selection = suite.Selection(cases, seconds, device, options.budget, timed=not options.check)
    selection.planted = options.plant
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "benchmark.json"
        machine.keep_memory()
        # Load only the plugin that is needed, whatever others are installed, and nobody's
        # pytest.ini.
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        arguments = [
            "-p",
            "pytest_benchmark.plugin",
            "-p",
            "no:python",
            "-p",
            "no:cacheprovider",
            "-q",
            "-s",
            "--no-header",
        ]
        arguments += [
            "--benchmark-quiet",
            f"--benchmark-json={found}",
            f"--rootdir={folder}",
            "-c",
            os.devnull,
            "--tb=short",
            "-W",
            "ignore",
        ]
        pytest.main([*arguments, suite.__file__], plugins=[selection])
        measured = [records.read(found)] if found.exists() and found.stat().st_size else []
        if measured:
            measured[0] |= {"absent": selection.absent, "limits": machine.limits(device)}
    for name, why in {**selection.red, **selection.broken}.items():
        print(f"check failed: {name}: {why}", file=sys.stderr)
    if selection.red or selection.broken:
        return FAILED, measured
    if selection.left:
        print(f"{len(selection.left)} of {len(cases)} cases are left; go on with --resume")
        return UNFINISHED, measured
    return OK, measured


def _refuse(why: str) -> int:
    print(f"pyebm bench: {why}", file=sys.stderr)
    return USAGE
