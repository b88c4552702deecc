"""The tutorials as notebooks, executed: python tools/notebooks.py [--pictures] [NAME ...]

Writes build/notebooks/NAME.ipynb with all outputs. ``--pictures`` puts the pictures that they draw
into docs/images/tutorials, where the pages show them.
"""

from __future__ import annotations

import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jupytext

ROOT = Path(__file__).resolve().parents[1]
PAGES, PICTURES = ROOT / "docs/tutorials", ROOT / "docs/images/tutorials"
OUT = ROOT / "build/notebooks"
IMAGE = re.compile(r"^!\[[^\]]*\]\([^)]*\)\n\n?", re.M)
LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:)[^)]*\)")


def notebook(page: str) -> Any:
    """Returns a tutorial's notebook. It draws its pictures itself, and stands alone: links to
    other pages become their text."""
    return jupytext.reads(LINK.sub(r"\1", IMAGE.sub("", page)), fmt="md")


def execute(name: str) -> Path:
    from nbclient import NotebookClient

    made = notebook((PAGES / f"{name}.md").read_text())
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(made, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    jupytext.write(made, folder.with_suffix(".ipynb"))
    return folder


def main(*arguments: str) -> None:
    names = [name for name in arguments if name != "--pictures"]
    names = names or sorted(path.stem for path in PAGES.glob("*.md"))
    with ThreadPoolExecutor(2) as pool:
        for folder in pool.map(execute, names):
            print(f"{folder.relative_to(ROOT)}.ipynb")
            if "--pictures" in arguments:
                PICTURES.mkdir(parents=True, exist_ok=True)
                for picture in folder.glob("*.png"):
                    shutil.copy(picture, PICTURES)


if __name__ == "__main__":
    main(*sys.argv[1:])
