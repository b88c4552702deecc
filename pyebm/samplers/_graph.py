"""One step of a sampler captured in a CUDA graph and replayed; the noise's step advances on the
device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ._body import Body

_WARM = 2  # steps before the capture: libraries set themselves up at their first use


class Replay:
    """Calls ``body.step`` as often as asked, after the first steps by replaying its launches.

    Args:
        body: its ``step(names, None)`` must not depend on the host's count of the steps.
        names: the names of the first step's noise, int64 (streams, 4) on the device.
    """

    def __init__(self, body: Body, names: Tensor) -> None:
        self.body, self.names, self.rows = body, names, list(names.unbind())
        self.warm = _WARM
        self.replay: Callable[[], None] | None = None

    def __call__(self, count: int) -> None:
        while count and self.warm:
            on_the_side(self._once)
            self.warm, count = self.warm - 1, count - 1
        if count and self.replay is None:
            self.replay = capture(self._once)
        for _ in range(count):
            self.replay()  # type: ignore[misc]

    def _once(self) -> None:
        self.body.step(self.rows, None)
        self.names.select(1, 2).add_(1)


def on_the_side(once: Callable[[], None]) -> None:
    """Call ``once`` on a CUDA stream of its own, as a capture's warm-up requires."""
    stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        once()
    current.wait_stream(stream)


def capture(once: Callable[[], None]) -> Callable[[], None]:
    """Record the launches of ``once`` without running them; returns a function that runs them."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        once()
    replay: Callable[[], None] = graph.replay
    return replay
