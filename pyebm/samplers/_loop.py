"""The one loop of all samplers: it names each step's noise, keeps states, and has callbacks,
stopping, a progress bar and CUDA graphs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, overload

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .._bar import bar, most_between
from .._checks import check_plain, check_samples
from .._modes import in_mode
from .._options import check_callable, checked_count, checked_flag
from .._stretches import stretches
from ..noise import Noise, as_noise
from . import _graph
from ._body import Body
from ._progress import Progress
from ._repr import shown
from ._run import Run
from ._state import State, Trajectory

Callback = Callable[[int, Tensor, dict[str, Any]], Any]
_BLOCK = 1024  # the names of so many steps are made at once


def _without_autograd(call: Callable[..., Any]) -> Callable[..., Any]:
    """Runs ``call`` without gradients and outside of inference mode, since autograd must be able to
    save the tensors that a run hands to an energy.

    Callbacks see the mode that the caller set. (no_grad as a decorator would keep a sampler from
    being made in compiled code.)
    """

    @functools.wraps(call)
    def run(*args: Any, **options: Any) -> Any:
        callback = options.get("callback")
        if callable(callback) and not is_compiling() and torch.is_inference_mode_enabled():
            options["callback"] = lambda *at: in_mode(lambda: callback(*at), grad=False, inference=True)
        return in_mode(lambda: call(*args, **options), grad=False)

    return run


class Sampler:
    """The base class of the samplers. A subclass defines one step: it makes a :class:`Body`.

    Raises NotImplementedError from a call, if the subclass makes none.

    Example:
        >>> import pyebm
        >>> isinstance(pyebm.samplers.Langevin(lambda x: -x, 0.1), pyebm.samplers.Sampler)
        True
    """

    length: int | None = None
    """The number of steps in the whole schedule; None where there is none."""

    def _body(self, run: Run) -> Body:
        raise NotImplementedError

    def __repr__(self) -> str:
        return shown(self, "options", "score_options")

    @overload
    def __call__(
        self,
        x0: Tensor,
        n_steps: int | None = None,
        *,
        noise: Noise | int | torch.Generator | None = None,
        thin: None = None,
        callback: Callback | None = None,
        progress: bool = False,
        graph: bool = False,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        x0: State,
        n_steps: int | None = None,
        *,
        noise: None = None,
        thin: None = None,
        callback: Callback | None = None,
        progress: bool = False,
        graph: bool = False,
    ) -> State: ...

    @overload
    def __call__(
        self,
        x0: Tensor | State,
        n_steps: int | None = None,
        *,
        noise: Noise | int | torch.Generator | None = None,
        thin: int,
        callback: Callback | None = None,
        progress: bool = False,
        graph: bool = False,
    ) -> Trajectory: ...

    @_without_autograd
    def __call__(
        self,
        x0: Tensor | State,
        n_steps: int | None = None,
        *,
        noise: Noise | int | torch.Generator | None = None,
        thin: int | None = None,
        callback: Callback | None = None,
        progress: bool = False,
        graph: bool = False,
    ) -> Tensor | State | Trajectory:
        """Run the sampler. docs/samplers.md describes what all samplers have in common.

        Args:
            x0: the initial state (B, ...), left as it is, or a :class:`State` from which an earlier
                run goes on. If a Noise drew x0, give the run another seed or stream: two uses of
                one (seed, step, stream) share their numbers.
            n_steps: how many steps; None, for a sampler with a schedule, for all that remain of it.
            noise: step k of the run draws from ``noise.at(step=noise.step + k)``. An int n is
                ``Noise(n)``; from a torch.Generator a seed is drawn; None draws a fresh seed from
                torch's default generator. A State brings its own noise.
            thin: keep the states after steps thin, 2 thin, ... and return a :class:`Trajectory`.
            callback: called as ``callback(k, x, info)`` after step k = 1, 2, ...; x and the tensors
                in info are the sampler's own (copy what you keep). A callback that returns True
                stops the run after that step.
            progress: show a bar (needs rich).
            graph: on CUDA, capture one step in a CUDA graph and replay it; the noise's step
                advances on the device.

        Returns:
            The last state: a tensor for a tensor, a State for a State; with thin, a Trajectory.

        Raises:
            TypeError, ValueError: x0, n_steps, thin or noise of the wrong type or value; whatever a
                step raises; graph=True off CUDA.
            ImportError: progress=True without rich.
            KeyboardInterrupt, and whatever a score function or a callback raises: the exception has
                an attribute ``so_far``, the State (with thin, the Trajectory) of the work done
                (docs/samplers.md).

        Warns (RuntimeWarning), on the CPU: chains of MALA or HMC that start where the energy is not
        finite, or accepted nothing.
        """
        call = type(self).__name__
        progress, graph = checked_flag(call, "progress", progress), checked_flag(call, "graph", graph)
        if callback is not None:
            check_callable(call, "callback", callback, "a function of k, x and info, or None")
        if isinstance(x0, State):
            if noise is not None:
                raise ValueError(f"{call}: noise comes with the State that is given as x0; give no other")
            start = x0
        else:
            check_samples(call, "x0", x0)
            check_plain(call, "x0", x0)
            start = State(x0, Noise() if noise is None else as_noise(call, noise))
        n_steps, thin = self._check(call, start, n_steps, thin, graph, start is x0)
        run = Run(call, start, self.length, n_steps, graph)
        body = self._body(run)
        run.need_streams(body.streams)
        progressed = Progress(
            run, body, start, None if thin is None else run.x.new_empty((n_steps // thin, *run.x.shape)), thin
        )
        try:
            self._advance(body, run, progressed, callback, progress)
        except BaseException as error:
            with suppress(Exception):
                error.so_far = progressed.so_far()  # type: ignore[attr-defined]
            raise
        body.look_back(progressed.done)
        if thin is None and start is not x0:
            return run.x
        end = progressed.state()
        return (
            end if thin is None else progressed.trajectory(end, progressed.done, body.totals(progressed.done))
        )

    @staticmethod
    def _advance(body: Body, run: Run, at: Progress, callback: Callback | None, progress: bool) -> None:
        """Takes all of the run's steps, or the steps until the callback stops the run."""
        n_steps, thin, kept, advance = run.n_steps, at.thin, at.kept, _stepper(body, run)
        cuts: Iterable[tuple[int, int]] = ((k, 1) for k in range(n_steps))
        if callback is None:
            first = body.at_once() if run.may_look else n_steps
            cuts = stretches(n_steps, first, thin, body.keeps, most_between(n_steps) if progress else None)
        with bar(run.call, n_steps, progress) as tick:
            for done, count in cuts:
                advance(done, count, kept, thin)
                at.done = done = done + count
                if done == n_steps and run.first + done == run.length:
                    body.finish()
                if kept is not None and thin is not None:
                    if not body.keeps and done % thin == 0:
                        kept.select(0, done // thin - 1).copy_(run.x)
                    before, now = (done - count) // thin, done // thin
                    if body.tells and now > before:
                        first = run.first + thin * (before + 1) - 1
                        at.reports.add(body.infos(range(first, run.first + done, thin)))
                tick(count)
                if callback is None:
                    at.remember()
                    continue
                at.watched = True
                if callback(done, run.x, body.info(run.first + done - 1)):
                    break
                at.watched = False
                at.remember()

    def _check(
        self, call: str, start: State, n_steps: int | None, thin: int | None, graph: bool, stateful: bool
    ) -> tuple[int, int | None]:
        first, length = start.noise.step, self.length
        if length is not None and first > length:
            raise ValueError(f"{call}: noise.step must be within the schedule's {length} steps, got {first}")
        if n_steps is None:
            if length is None:
                raise TypeError(
                    f"{call}: n_steps must be an int, got None; this sampler has no schedule that ends by"
                    " itself"
                )
            n_steps = length - first
        n_steps = checked_count(call, "n_steps", n_steps)
        if length is not None:
            n_steps = min(n_steps, length - first)
        if thin is not None:
            thin = checked_count(call, "thin", thin, 1, " or None")
        # A returned State names the noise of the next step, so that step must be below 2**32 too.
        if first + n_steps > 2**32 - (thin is not None or stateful):
            raise ValueError(f"{call}: steps must stay below 2**32, got step={first} and n_steps={n_steps}")
        if graph and not _capturable(start.x):
            raise ValueError(
                f"{call}: graph=True captures a CUDA graph and so needs x0 on a CUDA device, got"
                f" {start.x.device}"
            )
        return n_steps, thin


def _capturable(x: Tensor) -> bool:
    return x.is_cuda


def _stepper(body: Body, run: Run) -> Callable[[int, int, Tensor | None, int | None], None]:
    """A function that takes the next ``count`` steps. The names, one for each step and stream, are
    made in blocks."""
    noise = run.noise
    if run.graph:
        replay = _graph.Replay(body, noise._block(0, 1, body.streams, run.x).squeeze(0))
        return lambda _done, count, _kept, _thin: replay(count)
    if body.fused and not body.by_step:
        return body.advance
    streams, step = body.streams, body.step
    if not body.takes_names:

        def advance_unnamed(done: int, count: int, _kept: Tensor | None, _thin: int | None) -> None:
            for k in range(run.first + done, run.first + done + count):
                step((), k)

        return advance_unnamed
    block: list[Tensor] = []
    begin = 0

    def advance(done: int, count: int, _kept: Tensor | None, _thin: int | None) -> None:
        nonlocal block, begin
        for k in range(done, done + count):
            if (k - begin) * streams == len(block):
                begin = k
                block = list(
                    noise._block(k, min(_BLOCK, run.n_steps - k), streams, run.x).flatten(0, 1).unbind()
                )
            at = (k - begin) * streams
            step(block[at : at + streams], run.first + k)

    def advance_either(done: int, count: int, kept: Tensor | None, thin: int | None) -> None:
        alone = min(max(body.by_step - done, 0), count)
        advance(done, alone, kept, thin)
        if alone < count:
            body.advance(done + alone, count - alone, kept, thin)

    return advance_either if body.fused else advance
