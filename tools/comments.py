"""Prints thirty comments drawn at random, to be read aloud: ``python tools/comments.py [seed]``."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COUNT = 30


def comments(path: Path, mark: str) -> list[str]:
    """Returns each run of comment lines as ``file:line`` and its text."""
    found: list[str] = []
    block: list[str] = []
    for number, line in enumerate([*path.read_text().splitlines(), ""], 1):
        text = re.match(rf"\s*{mark}+ (.*)", line)
        if text:
            block.append(text[1])
        elif block:
            found.append(f"{path.relative_to(ROOT)}:{number - len(block)}\n    " + "\n    ".join(block))
            block = []
    return found


def main() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    every: list[str] = []
    for name in tracked.stdout.split():
        mark = {".py": "#", ".h": "//", ".cpp": "//", ".cu": "//"}.get(Path(name).suffix)
        if mark and name != "csrc/common/op_args.h":
            every += comments(ROOT / name, mark)
    seed = sys.argv[1] if len(sys.argv) > 1 else None
    print("\n\n".join(random.Random(seed).sample(every, COUNT)))


if __name__ == "__main__":
    main()
