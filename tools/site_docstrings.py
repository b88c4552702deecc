"""Griffe's extension: the docstrings' reStructuredText, as Markdown: roles become links, ``::``
blocks of code, and simple tables Markdown's."""

from __future__ import annotations

import re
from typing import Any

from griffe import Alias, AliasResolutionError, CyclicAliasError, Extension
from site_formulas import formula_or  # site_pages.py has put this folder on the path

BLOCK = re.compile(r"^( *)(.*?)::\n\n((?:\1    .*\n|\n)+(?:\1    .*)?)", re.M)
MARKS = re.compile(
    r":(?:class|func|meth|mod):`~?(?P<role>[\w.]+)`"
    r"|(?P<code>^ *```.*?^ *```$|``.+?``|`[^`]+`)"
    r"|docs/(?P<page>[\w/-]+)\.md"
    r"|\[|\*\*|(?<=: )>",
    re.M | re.S,
)
EXAMPLE = re.compile("^Example:$", re.M)
RULE = re.compile(r"^ *=+(?: +=+)+$")


def target_of(name: str, scope: Any) -> str | None:
    """Returns the path of the object that ``name`` means in ``scope`` or around it."""
    first, *rest = name.split(".")
    while scope is not None:
        found = scope.package if first == scope.package.name else scope.members.get(first)
        try:
            for part in rest if found is not None else ():
                found = found.all_members[part]
            if found is not None:
                path: str = found.canonical_path
                return path
        except (KeyError, AliasResolutionError, CyclicAliasError):
            pass
        scope = scope.parent
    return None


def linked(text: str, scope: Any) -> str:
    """Links roles and pages; the prose's other ``[``, ``**`` and ``>`` are not Markdown's."""

    def marked(found: re.Match[str]) -> str:
        if name := found["role"]:
            code = f"<code>{name}</code>"
            path = target_of(name, scope)
            return f'<autoref optional identifier="{path}">{code}</autoref>' if path else code
        if page := found["page"]:
            return f"[{page}](../{page}.md)"
        return formula_or(found["code"]) if found["code"] else "".join(f"\\{mark}" for mark in found[0])

    prose, prompt, example = text.partition(">>>")
    return MARKS.sub(marked, prose) + prompt + example


def fenced(text: str) -> str:
    def fence(block: re.Match[str]) -> str:
        indent, said, code = block.groups()
        lines = [line.removeprefix(indent + "    ") for line in code.strip("\n").splitlines()]
        said = f"{indent}{said}:\n\n" if said else ""
        return said + "\n".join(f"{indent}{line}" for line in ["```python", *lines, "```"]) + "\n\n"

    return BLOCK.sub(fence, text)


def tabled(text: str) -> str:
    """Draws simple tables, whose rules say where the columns are, as Markdown's."""
    lines: list[str] = []
    columns: list[slice] = []
    rules = 0
    for line in text.splitlines():
        if RULE.match(line):
            columns = [slice(*rule.span()) for rule in re.finditer("=+", line)]
            rules += 1
            if rules == 2:
                lines.append("|" + "---|" * len(columns))
            rules %= 3
        elif rules:
            cells = [line[c.start : None if c is columns[-1] else c.stop].strip() for c in columns]
            lines.append("| " + " | ".join(cells) + " |")
        else:
            lines.append(line)
    return "\n".join(lines)


def unshadowed(module: Any) -> None:
    """Puts a function in the place of its file's module where both have one name, as importing it
    does."""
    for name, path in module.imports.items():
        if path == f"{module.path}.{name}.{name}":
            module.members[name] = Alias(name, module[name][name], parent=module)


class Docstrings(Extension):
    def on_package(self, *, pkg: Any, loader: Any, **_: Any) -> None:
        loader.resolve_aliases(implicit=True, external=False)  # while every module is in its place
        self.visit(pkg)

    def visit(self, thing: Any) -> None:
        if thing.docstring:
            text = EXAMPLE.sub("Examples:", thing.docstring.value)  # the section, not an admonition
            thing.docstring.value = linked(fenced(tabled(text)), thing)
        if thing.is_class:
            thing.bases = [base for base in thing.bases if not str(base).startswith("_")]
        for member in thing.members.values():
            if not isinstance(member, Alias):
                self.visit(member)
        if thing.is_module:
            unshadowed(thing)
