"""A benchmark's parts: settings, and for each setting the work, its sides, and the check that
all sides do the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import pyebm

from . import machine, rivals
from .same import Draws, assert_near, assert_same_law, given, in_turn, tensors
from .timing import Run

NOISE = pyebm.Noise(0)
FLOAT, DOUBLE, HALF, BFLOAT = torch.float32, torch.float64, torch.float16, torch.bfloat16
# How far two evaluations of one formula may be apart, relative to the largest value.
TOLERANCE = {FLOAT: 2e-5, DOUBLE: 2e-5, HALF: 1e-2, BFLOAT: 8e-2}


@dataclass(frozen=True)
class Setting:
    """The conditions that a piece of work is measured under. ``variant`` names what the other
    fields don't."""

    shape: tuple[int, ...]
    dtype: torch.dtype = FLOAT
    threads: int = 1
    variant: str = ""
    steps: int = 1
    quick: bool = False  # --quick runs it
    headline: bool = False  # the README's table shows it
    compiled: bool = False  # torch.compile stands beside it too (compiling takes tens of seconds)
    device: str = "cpu"

    def label(self) -> str:
        size = "x".join(map(str, self.shape))
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else self.device
        steps = f"{self.steps} steps" if self.steps > 1 else ""
        dtype = str(self.dtype).removeprefix("torch.")
        return ", ".join(filter(None, (self.variant, size, steps, dtype, threads)))

    @property
    def normal(self) -> int:
        """Operations of a normal, see :func:`.machine.normal_operations`."""
        return machine.normal_operations(self.device)

    def randn(self, seed: int = 0, shape: tuple[int, ...] | None = None) -> Tensor:
        """Test data from torch's own generator."""
        made = torch.randn(shape or self.shape, generator=torch.Generator().manual_seed(seed))
        return made.to(self.device, self.dtype)

    def rows(self, low: float, high: float, seed: int = 0) -> Tensor:
        """One float32 number a sample, uniform between low and high."""
        made = torch.rand(self.shape[0], generator=torch.Generator().manual_seed(seed))
        return (low + (high - low) * made).to(self.device)


def grid(
    *shapes: tuple[int, ...],
    dtypes: tuple[torch.dtype, ...] = (FLOAT,),
    threads: tuple[int, ...] = (1,),
    **options: Any,
) -> list[Setting]:
    return [
        Setting(shape, dtype, count, **options) for shape in shapes for dtype in dtypes for count in threads
    ]


@dataclass
class Work:
    """One piece of work at one setting. Sides are callables without arguments that return their
    results.

    ``bytes`` counts the memory traffic that no implementation can avoid and ``operations`` the
    arithmetic, both for a whole call and without the reading of stored normals; figures per element
    are divided by ``elements``.
    """

    elements: int
    bytes: float
    operations: float
    steps: int = 1
    sides: dict[str, Run] = field(default_factory=dict)
    checks: dict[str, Callable[[], None]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # side: why it can't run here
    parts: dict[str, str] = field(default_factory=dict)  # side: the side whose work it is a part of
    uncounted: set[str] = field(
        default_factory=set
    )  # sides whose dispatcher operations mean nothing (compiled, captured)
    reset: Callable[[], object] = lambda: None  # undoes the sides' changes to their state, before a check
    tolerance: float = TOLERANCE[FLOAT]
    strays: float = (
        0.0  # the share of samples that may end elsewhere: where rounding decides a Metropolis test
    )
    draws: Draws = in_turn  # (step, stream) in our noise of a side's n-th draw of normals
    copied: bool = True  # also time a copy of as many bytes

    def ours(
        self, make: Callable[[str | None], Run], device: str = "cpu", *, reference: bool = False
    ) -> Work:
        """Adds our side, and our other backends that run here. ``make`` takes a backend's name.

        The reference is a proof, not a competitor: it is added only where ``reference`` says so, at
        sizes that it finishes in reasonable time.
        """
        self.sides["pyebm"] = make(None)
        others = [name for name in ("cuda", "triton") if device == "cuda" and pyebm.backends()[name] is True]
        if len(others) < 2:  # a single one is already the side above
            others = []
        for name in [*others, *["reference"] * reference]:
            self.side(f"pyebm {name}", make(name))
        return self

    def side(self, name: str, run: Run, check: str | Callable[[], None] = "noise") -> Work:
        """Adds another side. The check "noise" gives it our noise and wants our result; "law"
        compares means and variances."""
        self.sides[name] = run
        if callable(check):
            self.checks[name] = check
        else:
            self.checks[name] = {"noise": self._same_by_noise, "law": self._same_in_law}[check](run)
        return self

    def eager(
        self,
        function: Callable[..., Any],
        make: Callable[[Callable[..., Any]], Run],
        *,
        compiled: bool = False,
        draws: bool = True,
    ) -> Work:
        """Adds plain PyTorch, ``make(function)``, and where asked the same under torch.compile.

        Compiled code that draws random numbers can't be given ours, so its results are compared by
        their law.
        """
        self.side("eager", make(function))
        if compiled:
            self.side("torch.compile", make(torch.compile(function)), "law" if draws else "noise")
            self.uncounted.add("torch.compile")
        return self

    def rival(
        self, name: str, make: Callable[[ModuleType], Run], check: str | Callable[[], None] = "noise"
    ) -> Work:
        """Adds a package's own code, or notes why the package can't run here."""
        try:
            run = make(rivals.get(name))
        except rivals.Missing as why:
            self.missing[name] = str(why)
            return self
        return self.side(name, run, check)

    def part(self, name: str, of: str, run: Run) -> Work:
        """Adds a side that is a part of another side's work, to show its share."""
        self.sides[name] = run
        self.parts[name] = of
        return self

    def _same_by_noise(self, run: Run) -> Callable[[], None]:
        def check() -> None:
            self.reset()
            ours = tensors(self.sides["pyebm"]())
            self.reset()
            with given(NOISE, self.draws):
                theirs = tensors(run())
            for ours_one, theirs_one in zip(ours, theirs, strict=True):
                assert_near(ours_one, theirs_one, self.tolerance, self.strays)

        return check

    def _same_in_law(self, run: Run) -> Callable[[], None]:
        def check() -> None:
            self.reset()
            ours = tensors(self.sides["pyebm"]())
            self.reset()
            for ours_one, theirs_one in zip(ours, tensors(run()), strict=True):
                assert_same_law(ours_one, theirs_one)

        return check


@dataclass(frozen=True)
class Case:
    """One line of the report."""

    group: str
    setting: Setting
    build: Callable[[Setting], Work] = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.group} [{self.setting.label()}]"


@dataclass(frozen=True)
class Group:
    name: str
    title: str
    cases: list[Case]


GROUPS: dict[str, Group] = {}


def benchmark(
    name: str, title: str, settings: list[Setting]
) -> Callable[[Callable[[Setting], Work]], Callable[[Setting], Work]]:
    """Registers a function from a setting to its work under ``name``, the one that --only takes."""

    def register(build: Callable[[Setting], Work]) -> Callable[[Setting], Work]:
        GROUPS[name] = Group(name, title, [Case(name, setting, build) for setting in settings])
        return build

    return register


def on(device: str, case: Case) -> Case:
    """The case on another device, where threads mean nothing."""
    if device == "cpu":
        return case
    return replace(case, setting=replace(case.setting, device=device, threads=1))
