"""Many steps of MALA or HMC on a target, by the ops that take a single step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._arguments import entry
from .._composed.coefficients import require
from .._schemas import MetropolisChain
from .composed import dual_averaging, leapfrog, metropolis
from .density import evaluate
from .langevin import affine_step, langevin_step
from .noise import uniform_

_Size = tuple[float, Tensor | None]  # one step size, or one per sample


@entry(MetropolisChain)
def metropolis_chain(args: MetropolisChain) -> None:
    _Chain(args).run()


class _Chain:
    """The chain's arguments, with the proposal, its score and its energy."""

    def __init__(self, args: MetropolisChain) -> None:
        self.args = args
        self._check()
        self.proposal, self.score = torch.empty_like(args.x), torch.empty_like(args.score)
        self.energy = torch.empty_like(args.energy)
        self.named = (args.seeds, args.ids)
        self.names = [args.name + torch.tensor([0, 0, 0, stream], device="cpu") for stream in range(3)]
        self.options = (None, args.mask, None, None, None, *self.named)  # no mean, clamp or score_clip
        self.reports = None if args.reports is None else args.reports.view(-1, 4, args.x.shape[0])

    def run(self) -> None:
        args = self.args
        for k in range(args.n_steps):
            temperature = (
                args.temperature if args.temperature_rows is None else float(args.temperature_rows[k])
            )
            self._step(self._jittered(self._size(k)), temperature)
            self._learn(k)
            if args.thin is not None and (k + 1) % args.thin == 0:
                self._report((k + 1) // args.thin - 1, self._size(k))
            for name in self.names:
                name[2] += 1

    def _check(self) -> None:
        args, batch = self.args, self.args.x.shape[0]
        tables = (
            ("averaging", args.averages.averaging, 4),
            ("reports", args.reports, 4 * (args.n_steps // (args.thin or 1))),
        )
        for name, table, count in tables:
            if table is not None and table.shape != (count, batch):
                must = f"{name} must have the shape {(count, batch)}"
                raise ValueError(f"metropolis_chain: {must}, got {tuple(table.shape)}")
        if args.temperature_rows is not None and len(args.temperature_rows) != args.n_steps:
            raise ValueError(
                f"metropolis_chain: temperature must have one value for each of {args.n_steps} steps, got"
                f" {len(args.temperature_rows)}"
            )
        if args.root is not None and args.x.dtype in (torch.float16, torch.bfloat16):
            raise ValueError("metropolis_chain: x must be float32 or float64 where root is given")
        coefficients = (
            ("step_size", args.step_size_rows, "step" if args.step_size_per_step else "sample"),
            ("step_size", None if args.averages.averaging is None else args.averages.averaging[0], "sample"),
            ("temperature", args.temperature_rows, "step"),
        )
        for name, rows, one in coefficients:
            if rows is not None:
                require("metropolis_chain", name, rows, True, one)

    def _size(self, k: int) -> _Size:
        args, rows = self.args, self.args.step_size_rows
        if args.averages.averaging is not None:
            return math.nan, args.averages.averaging[0]
        if rows is not None and args.step_size_per_step:
            return float(rows[k if len(rows) > 1 else 0]), None
        return args.step_size, rows

    def _jittered(self, size: _Size) -> _Size:
        args, (number, rows) = self.args, size
        if args.jitter == 0:
            return size
        uniform = args.x.new_empty((args.x.shape[0], 1), dtype=torch.float64)
        uniform_(uniform, self.names[2], *self.named)
        spread = 1.0 + args.jitter * (2.0 * uniform.flatten() - 1.0)
        return math.nan, spread * (number if rows is None else rows)

    def _step(self, size: _Size, temperature: float) -> None:
        args, (number, rows) = self.args, size
        momenta: tuple[Tensor | None, Tensor | None]
        if args.n_leapfrog == 0:
            tested, momenta = size, self._propose(size, temperature)
            wide = None if rows is None else 4.0 * temperature * rows.double()
            scale = (4.0 * temperature * number, wide)
        else:
            tested = (0.5 * number, None if rows is None else 0.5 * rows)
            momenta = self._travel(size, tested, temperature)
            scale = (2.0 * temperature, None)
        evaluate(args.density, self.proposal, self.score, self.energy, args.constant)
        self._rescale(1)
        held = (args.x, args.score, args.energy, args.accepted, args.accept, args.log_alpha)
        tail = (*momenta, tested[1], scale[1], *self.named)
        proposed = (self.proposal, self.score, self.energy, tested[0], scale[0], temperature)
        metropolis(*held, *proposed, self.names[1], *tail)

    def _rescale(self, times: int) -> None:
        """Make the score 0 outside of the mask, and multiply it by root."""
        if self.args.mask is not None:
            self.score.masked_fill_(~self.args.mask, 0.0)
        if self.args.root is not None:
            for _ in range(times):
                self.score.mul_(self.args.root)

    def _propose(self, size: _Size, temperature: float) -> tuple[Tensor | None, Tensor | None]:
        args, y, (number, rows) = self.args, self.proposal, size
        tail = (number, temperature, self.names[0], rows, None, *self.options)
        if args.root is None:
            langevin_step(y, args.x, args.score, *tail)
            return None, None
        move = torch.empty_like(args.x)
        langevin_step(move, torch.zeros_like(args.x), args.score, *tail)
        y.copy_(args.x + args.root * move)
        moved = (y - args.x) / args.root
        return moved, moved

    def _travel(self, size: _Size, half: _Size, temperature: float) -> tuple[Tensor, Tensor]:
        args, q, (number, rows) = self.args, self.proposal, size
        fresh, p = torch.empty_like(args.x), torch.empty_like(args.x)
        numbers = (0.0, half[0], math.sqrt(temperature), self.names[0], None, half[1], None)
        affine_step(fresh, args.score, args.score, *numbers, *self.options)
        begun = fresh if args.root is None else args.root * fresh
        leapfrog(q, begun, number, None, args.x, None, rows)
        for i in range(1, args.n_leapfrog):
            evaluate(args.density, q, self.score)
            self._rescale(2)
            leapfrog(q, p, number, self.score, None, begun if i == 1 else None, rows)
        return fresh, fresh if args.n_leapfrog == 1 else p if args.root is None else p / args.root

    def _learn(self, k: int) -> None:
        acceptance, warmup, averaged, averaging = self.args.averages
        if averaging is None or averaged is None or warmup is None or acceptance is None:
            return
        if averaged + k < warmup:
            steps = torch.tensor(float(averaged + k), dtype=torch.float64, device="cpu")
            sizes, log_average, gap, middle = averaging.unbind()
            held = (sizes, log_average, gap, steps, self.args.log_alpha)
            dual_averaging(*held, middle, warmup, acceptance, False)

    def _report(self, i: int, size: _Size) -> None:
        args = self.args
        if args.states is not None:
            args.states[i] = args.x
        if self.reports is not None:
            number, rows = size
            last = torch.full_like(args.energy, number) if rows is None else rows.double()
            numbers = (args.energy, args.log_alpha, args.accept.double(), last)
            self.reports[i] = torch.stack(numbers)
