"""The closed-form targets that have kernels, and the facts about each that every backend and the
tests take from here."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A target as its kernels see it."""

    name: str
    numbers: int | None
    """How many packed parameters it has; None where :func:`fits` knows a rule."""
    least: int = 0
    """Fewer elements than this make no sample."""
    coupled: bool = False
    """Whether an element's score depends on its sample's other elements."""
    dense: bool = False
    """Whether a sample meets the rows of a matrix. The kernels of such a target differ from the
    reference by rounding (docs/accuracy.md); those of all others have its bits."""


# csrc/common/targets.h PYEBM_TARGETS has the same table, with which each compiled library is
# compared when it is loaded.
_TABLE = (
    Kind("harmonic", 2),
    Kind("double_well", 2),
    Kind("gaussian", None),
    Kind("polynomial", None),
    Kind("rastrigin", 1),
    Kind("rosenbrock", 3, least=2, coupled=True),
    Kind("ackley", 4, least=1, coupled=True),
    Kind("funnel", 1, least=2, coupled=True),
    Kind("mixture", None, least=1, dense=True),
    Kind("mixture_diagonal", None, least=1, dense=True),
    Kind("gaussian_full", None, least=1, dense=True),
)

KINDS = {kind.name: kind for kind in _TABLE}
TARGETS = tuple(KINDS)
"""The names; an op's argument ``target`` is an index in them."""

TEXT = "".join(
    f"{name} {-1 if numbers is None else numbers} {least} {coupled:d} {dense:d}\n"
    for name, numbers, least, coupled, dense in _TABLE
)
"""The table as a library writes it (csrc/common/target_facts.h targets_text)."""


def row_stride(dim: int) -> int:
    """The distance from one row of a packed matrix to the next, chosen so that the rows don't all
    fall on the same cache set."""
    return dim if dim % 512 else dim + 16


def fits(name: str, elements: int, numbers: int) -> bool:
    """Whether the target has so many packed parameters, for samples of so many elements."""
    if elements < KINDS[name].least:
        return False
    if name == "gaussian":
        return numbers == 2 * elements
    if name == "polynomial":
        return numbers > 0
    if name == "mixture":
        return numbers > elements and (numbers - elements) % (3 + row_stride(elements)) == 0
    if name == "mixture_diagonal":
        return numbers > 0 and numbers % (1 + 2 * row_stride(elements)) == 0
    if name == "gaussian_full":
        return numbers == elements * (1 + row_stride(elements))
    return numbers == KINDS[name].numbers
