"""MkDocs' hook: the repository's own pages join docs/, and links lead within the site.

One text serves both readers: on disk a link leads to a file, here to its page. A link to a source,
which has no page, becomes its text, and a formula in code is typeset.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
from site_formulas import formula_or

try:
    import jupytext
    from notebooks import notebook
except ModuleNotFoundError:  # then the tutorials have no notebooks
    jupytext = None

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "RELEASING.md": "releasing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
CODE = re.compile(r"(?<!`)`[^`\n]+(?:\n[^`\n]+)?`(?!`)")
FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)


def on_files(files: Any, config: Any) -> Any:
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    if jupytext:
        for path in sorted((ROOT / "docs/tutorials").glob("*.md")):
            content = jupytext.writes(notebook(path.read_text()), fmt="ipynb")
            files.append(File.generated(config, f"tutorials/{path.stem}.ipynb", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    if page.parent is None:
        page.meta["hide"] = ["navigation"]  # a tab of one page
    here = page.file.src_uri
    source = {there: name for name, there in OUTSIDE.items()}.get(here, f"docs/{here}")

    def moved(found: re.Match[str]) -> str:
        image, text, target, anchor = found.groups()
        on_disk = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = OUTSIDE.get(on_disk, on_disk.removeprefix("docs/"))
        file = files.get_file_from_path(there)
        if file is None and (ROOT / on_disk).exists():
            return text
        if file is not None and file.page is not None and text.endswith(".md"):
            text = file.page.title
        return f"{image}[{text}]({posixpath.relpath(there, posixpath.dirname(here) or '.')}{anchor or ''})"

    if jupytext and here.startswith("tutorials/"):
        title, _, rest = markdown.partition("\n")
        name = posixpath.basename(here).removesuffix(".md")
        markdown = f"{title}\n\n[As a notebook]({name}.ipynb){{ download }}\n{rest}"
    parts = FENCE.split(markdown)
    return "".join(
        part if part.startswith("```") else CODE.sub(lambda code: formula_or(code[0]), LINK.sub(moved, part))
        for part in parts
    )
