"""The progress bar of a run that was asked for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Tick = Callable[[float], object]
_TICKS = 100  # how many times a bar moves at least


def bar(call: str, n_steps: int, wanted: bool) -> AbstractContextManager[Tick]:
    """Shows a bar, and gives the function that moves it by so many steps; without ``wanted`` there
    is no bar, and the function does nothing."""
    return _shown(call, n_steps) if wanted else nullcontext(_no_tick)


def most_between(n_steps: int) -> int:
    """The most steps that a call may take from one of a bar's moves to the next."""
    return max(-(-n_steps // _TICKS), 1)


@contextmanager
def _shown(call: str, n_steps: int) -> Iterator[Tick]:
    try:
        from rich.progress import Progress
    except ImportError:
        raise ImportError(
            "progress=True needs rich: pip install 'pyebm-kernels[demo]' or pip install rich"
        ) from None
    with Progress() as shown:
        task = shown.add_task(call, total=n_steps)
        yield lambda count: shown.advance(task, count)


def _no_tick(count: float) -> None:
    del count
