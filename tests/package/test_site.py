"""The site: every page is in its navigation, every public name in its API; with MkDocs installed
(``make docs``), it is built, and every link in it leads to a page and a heading."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import pyebm

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OF_THE_ROOT = {"index.md", "contributing.md", "releasing.md", "security.md", "changelog.md"}
DOCUMENTED = {
    name
    for page in (DOCS / "api").glob("*.md")
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
}


def public_names():
    """Returns each public name, and the paths under which the API may have it."""
    for name in pyebm.__all__:
        thing = getattr(pyebm, name)
        if isinstance(thing, types.ModuleType):
            yield f"pyebm.{name}", {f"pyebm.{name}"}
        else:
            rooms = [
                room
                for room in ("losses", "samplers", "targets", "distributed")
                if getattr(getattr(pyebm, room), name, None) is thing
            ]
            yield f"pyebm.{name}", {f"pyebm.{name}", *(f"pyebm.{room}" for room in rooms)}
    for path in sorted((ROOT / "pyebm/integrations").iterdir()):
        if not path.name.startswith("_"):
            yield f"pyebm.integrations.{path.stem}", {f"pyebm.integrations.{path.stem}"}


def test_every_page_is_in_the_navigation_and_there():
    navigation = re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert len(navigation) == len(set(navigation))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert set(navigation) == pages | OF_THE_ROOT


@pytest.mark.parametrize(("name", "paths"), [*public_names()])
def test_every_public_name_is_in_the_api(name, paths):
    assert paths & DOCUMENTED, f"no page of docs/api has `::: {name}`"


def test_the_api_names_what_there_is():
    for name in DOCUMENTED:
        if name.startswith("pyebm.integrations."):  # its package may be missing
            stem = ROOT / name.replace(".", "/")
            assert stem.with_suffix(".py").exists() or (stem / "__init__.py").exists(), name
            continue
        parent, _, last = name.rpartition(".")
        thing = importlib.import_module(parent)
        assert hasattr(thing, last) or importlib.util.find_spec(name), name


class Links(HTMLParser):
    """The identifiers of a page, and where its links and pictures lead."""

    def __init__(self, page: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, _tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        self.targets += [given[key] for key in ("href", "src") if given.get(key)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return {page.relative_to(out).as_posix(): Links(page) for page in out.rglob("*.html")}, out


def test_every_link_of_the_site_leads_somewhere(site):
    pages, out = site
    for name, page in pages.items():
        for target in page.targets:
            url = urlsplit(target)
            if url.scheme or url.netloc or name == "404.html":
                continue
            there = (out / name).parent / unquote(url.path) if url.path else out / name
            assert there.exists(), (name, target)
            found = pages.get(os.path.relpath(there, out))
            if url.fragment and found:
                assert unquote(url.fragment) in found.anchors | {"__skip"}, (name, target)


def exported(module: str) -> list[str]:
    """Returns ``__all__`` of a module's source, which may need a package that isn't here."""
    tree = ast.parse((ROOT / module.replace(".", "/") / "__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def test_the_site_has_an_entry_for_every_export(site):
    anchors = set().union(*(page.anchors for page in site[0].values()))
    rooms = ["losses", "samplers", "targets", "distributed", "reference", "demo"]
    for room in [*rooms, "integrations.diffusers", "integrations.score_sde"]:
        names = exported(f"pyebm.{room}")
        assert names
        assert {f"pyebm.{room}.{name}" for name in names} <= anchors


def test_the_site_needs_no_other_host(site):
    """A page that is read without a network looks the same."""
    for page in site[1].rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link)\b[^>]*?(?:src|href)=[\"']?(https?:[^\"' >]+)", page.read_text()
        )
        assert not loaded, (page.name, loaded)


def test_no_docstring_is_left_in_restructured_text(site):
    for page in (site[1] / "api").glob("*.html"):
        assert not re.search(r":(?:class|func|meth|mod):|={6,}", page.read_text()), page.name
