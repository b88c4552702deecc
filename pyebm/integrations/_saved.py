"""Pickles that outlive pyebm: an adapter's object loads as ours where pyebm is installed, as the
package's own object where only that is, and elsewhere as a record of what it was."""

from __future__ import annotations

import copyreg
import functools
import operator
from collections.abc import Callable
from typing import Any

from ._draws import Draws

# A class that every Python has, so that a pickle loads without pyebm; its repr shows what it holds.
_RECORD = "argparse.Namespace"


class Saved:
    """A base of the classes that are pickled in this way. The draws become plain numbers, since a
    Noise could not be loaded without pyebm."""

    _original: str  # where the package's own class is found
    _draws: Any  # Draws, or None
    _remade: tuple[str, ...] = ()  # attributes that are made again when they are missing

    def __reduce__(self) -> tuple[Any, ...]:
        cls = type(self)
        ours = f"{cls.__module__}.{cls.__qualname__}"
        left = ("_draws", *self._remade)
        state = {name: value for name, value in self.__dict__.items() if name not in left}
        draws = None if self._draws is None else self._draws.plain()
        state["_pyebm"] = {"class": ours, "original": self._original, "draws": draws}
        if not ours.startswith("pyebm."):  # somebody's subclass can't be replaced by its base
            return copyreg.__newobj__, (cls,), state  # type: ignore[attr-defined]
        return _Empty(cls, (ours, self._original, _RECORD)), (), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        draws = state.pop("_pyebm")["draws"]
        above = getattr(super(), "__setstate__", self.__dict__.update)  # a module has one
        above(state)
        if draws is not None:
            self._draws = Draws.from_plain(draws)


class _Empty:
    """A call that makes an object of a class, without its ``__init__``. Its pickle names several
    classes, and takes the first that can be imported where it is loaded."""

    def __init__(self, cls: type, names: tuple[str, ...]) -> None:
        self._cls, self._names = cls, names

    def __call__(self) -> Any:
        return object.__new__(self._cls)

    def __reduce__(self) -> tuple[Any, ...]:
        scope = {"names": self._names}
        found = _Call(operator.getitem, [_Call(exec, _FIND, scope), _Call(operator.getitem, scope, "cls")], 1)
        return functools.partial, (object.__new__, found)


# The pickle must carry this search, since where it is loaded there may be nothing but Python.
_FIND = """\
from importlib import import_module
for name in names:
    module, _, attribute = name.rpartition(".")
    try:
        cls = getattr(import_module(module), attribute)
    except (ImportError, AttributeError):
        continue
    break
"""


class _Call:
    """Pickled as the call of a function of the standard library, which the loading makes."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call
