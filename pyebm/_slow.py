"""The warning where the reference stands in for a compiled library that is not here."""

from __future__ import annotations

import functools
import warnings


@functools.cache
def say_slow(why: str) -> None:
    """Says it once, at the caller's first use of a kernel."""
    warnings.warn(
        f"pyebm runs on its reference, pure PyTorch: the same bits, 10 to 1,000 times slower, because {why}",
        RuntimeWarning,
        stacklevel=2,
    )
