"""Python programs in processes of their own, each forked from one that has imported torch:
importing it takes longer than what most of these programs do."""

from __future__ import annotations

import functools
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path


def python(
    *arguments: str | Path, cwd: Path | str | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run([sys.executable, *arguments])``, with what the program said as text."""
    with tempfile.TemporaryDirectory() as folder:
        said = [f"{folder}/out", f"{folder}/err"]
        asked = {
            "arguments": list(map(str, arguments)),
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "said": said,
        }
        server = _server()
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, *(Path(path).read_text() for path in said))


@functools.cache
def _server() -> subprocess.Popen[str]:
    """Ends with the process that started it, at the end of its input."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True, env=env)


def _serve() -> list[str] | None:
    """Forks for each program that is asked for; returns its arguments in the child, None at the
    end."""
    import torch
    import torch.utils.cpp_extension  # for setup.py

    for line in sys.stdin:
        asked = json.loads(line)
        if child := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        os.environ.clear()
        os.environ.update(asked["env"])
        if "OMP_NUM_THREADS" in os.environ:
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        os.chdir(asked["cwd"])
        for place, path in enumerate([os.devnull, *asked["said"]]):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), place)
        return asked["arguments"]
    return None


def _run(first: str, *rest: str) -> None:
    """As ``python first *rest`` would."""
    named = first in ("-c", "-m")
    sys.path[:1] = [
        "" if named else str(Path(first).parent),
        *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
    ]
    sys.argv = [first, *rest[named:]]
    if first == "-c":
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__" and (arguments := _serve()):
    _run(*arguments)
