"""Triton's real launch path on a machine without a GPU: arguments are specialised (alignment, the
value 1, None) and kernels compiled exactly as for a launch. The caller's function gets the compiled
kernel in place of the launch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

TARGETS = {
    **{f"sm_{arch}": GPUTarget("cuda", arch, 32) for arch in (80, 90, 100, 120)},
    **{arch: GPUTarget("hip", arch, warp) for arch, warp in (("gfx942", 64), ("gfx1100", 32))},
}


class _Driver:
    """The part of Triton's driver that compiling asks for."""

    def __init__(self, target: str) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return TARGETS[self.target]

    def get_current_device(self) -> int:
        return list(TARGETS).index(self.target)  # Triton keeps compiled kernels by device

    def get_current_stream(self, device: int = 0) -> int:  # noqa: ARG002
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_device_interface(self) -> Any:
        return torch.cpu

    def is_active(self) -> bool:
        return True


@dataclass
class Launch:
    function: JITFunction
    compiled: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.function.__name__)

    @property
    def run_time_arguments(self) -> list[Any]:
        """The values that the compiled kernel takes, in its order: every argument but constexprs,
        and None is one of those."""
        signature = self.compiled.src.signature
        return [
            value
            for name in self.function.arg_names
            for value in _present(self.arguments[name], signature[name])
        ]


def _present(value: Any, kind: Any) -> list[Any]:
    if isinstance(kind, tuple):
        return [one for part, part_kind in zip(value, kind, strict=True) for one in _present(part, part_kind)]
    return [] if kind == "constexpr" else [value]


@contextlib.contextmanager
def compiling(target: str, execute: Callable[[Launch], None] | None = None) -> Iterator[list[Launch]]:
    """Within, a launch of any Triton kernel on CPU tensors compiles the kernel for ``target``,
    joins the list, and goes to ``execute``."""
    launches: list[Launch] = []

    def launcher(function: JITFunction, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*args: Any, **kwargs: Any) -> None:
            compiled = function.warmup(*args, grid=grid, **kwargs)
            values = dict(zip(function.arg_names, args, strict=False)) | kwargs
            launches.append(Launch(function, compiled, grid, values))
            if execute is not None:
                execute(launches[-1])

        return launch

    before, driver_before = JITFunction.__getitem__, driver._active
    driver.set_active(_Driver(target))
    JITFunction.__getitem__ = launcher
    try:
        yield launches
    finally:
        JITFunction.__getitem__ = before
        driver._active = driver_before  # reset_active() would look for a device
