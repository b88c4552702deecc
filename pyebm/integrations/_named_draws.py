"""Names for what somebody else's code draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .._modes import in_mode
from .._options import FLOATS
from ..noise import Noise
from ._draws import Draws, Source


class NamedDraws(TorchFunctionMode):
    """Within it, whatever code draws with torch's functions comes from a Noise, by its order: draw
    k of this object is the Noise's step + k. No line of that code changes.

    The first dimension of a draw counts samples. ``randn``, ``randn_like``, ``normal_``, ``rand``,
    ``rand_like``, ``uniform_``, ``randint`` (of at most 2**16 values) and ``multinomial`` (of one
    index) give a sample the numbers that its own name has, in whatever batch it comes. The others,
    such as ``randperm`` and ``bernoulli``, take a torch.Generator that the Noise seeds: they are a
    function of the Noise and the whole batch. A draw that is given a generator keeps it, and
    dropout, which takes none, stays torch's. Each call of torch costs about a microsecond more.

    Args:
        noise: a :class:`pyebm.Noise`; ``torch.randn_like`` or a function like it, which then gives
            the normals while all else stays torch's; or None, where all of it does.

    It may be entered again, and goes on in the noise.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations import NamedDraws
        >>> def code(x):  # of somebody else
        ...     return x + torch.randn_like(x), torch.rand(len(x))
        >>> with NamedDraws(pyebm.Noise(0)):
        ...     x, u = code(torch.zeros(4, 2))
        >>> torch.equal(x, pyebm.Noise(0).randn((4, 2)))
        True
        >>> with NamedDraws(pyebm.Noise(0, first_sample=2)):  # the last two, alone
        ...     y, v = code(torch.zeros(2, 2))
        >>> torch.equal(y, x[2:]), torch.equal(v, u[2:])
        (True, True)
    """

    draws: Draws

    def __init__(self, noise: Draws | Source = None) -> None:
        super().__init__()
        self.draws = noise if isinstance(noise, Draws) else Draws(noise)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        draw = _DRAWS.get(func)
        if draw is None:
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        # Where the source is a function, it gives normals alone: uniforms stay torch's.
        left = self.draws.source is None or not (self.draws.is_ours or draw is _normal)
        if left or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        drawn = draw(self.draws, func, args, kwargs)
        return _seeded(self.draws, func, args, kwargs) if drawn is None else drawn


@contextmanager
def seeded(draws: Draws, like: Tensor) -> Iterator[None]:
    """torch's own generators, which the next draw seeds for a while: a function of the Noise and
    the whole batch, at the cost of a seed, for code whose number of draws depends on the batch."""
    if draws.source is None or not draws.is_ours:
        yield
        return
    drawn = draws(like[:1])
    with torch.random.fork_rng([like.device] if like.is_cuda else []):
        torch.manual_seed(seed_of(drawn))
        yield


# A Draw makes the numbers of a call of torch, or returns None where only a generator can make them.
Draw = Callable[[Draws, Any, tuple[Any, ...], dict[str, Any]], Tensor | None]


def _normal(draws: Draws, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    like = _like(func, args, kwargs)
    if like is None:
        return None
    drawn = _next(draws, like)
    if not isinstance(drawn, Noise):
        return _as_asked(drawn.reshape(like.shape), kwargs)
    named = drawn.randn(_sizes(like), dtype=like.dtype, device=like.device)
    return _as_asked(named.reshape(like.shape), kwargs)


def _uniform(draws: Draws, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    like = _like(func, args, kwargs)
    if like is None:
        return None
    return _as_asked(uniforms(_next(draws, like), like), kwargs)


def uniforms(drawn: Noise, like: Tensor) -> Tensor:
    """Uniforms in [0, 1) like ``like``, on the grid of torch's."""
    fine = 1 - drawn.rand(_sizes(like), dtype=torch.float64, device=like.device)
    grid = 2 / torch.finfo(like.dtype).eps
    return (fine * grid).floor().div(grid).to(like.dtype).reshape(like.shape)


def _integers(draws: Draws, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    options = dict(kwargs)
    numbers = [*args, *(options.pop(name) for name in ("low", "high", "size") if name in options)]
    if len(numbers) == 2:
        numbers = [0, *numbers]
    if len(numbers) != 3 or "out" in options:
        return None
    low, high, size = int(numbers[0]), int(numbers[1]), numbers[2]
    if not 0 < high - low <= 2**16:
        return None
    dtype = options.pop("dtype", None) or torch.int64
    like = torch.empty(tuple(size), dtype=torch.float64, device=options.pop("device", None))
    drawn = low + (uniforms(_next(draws, like), like) * (high - low)).long()
    return _as_asked(drawn.to(dtype), options)


def _index(draws: Draws, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """An index a row: the largest of p / e with exponentials e, as torch draws it too."""
    weights = kwargs.get("input", args[0] if args else None)
    count = kwargs.get("num_samples", args[1] if len(args) > 1 else None)
    if count != 1 or not isinstance(weights, Tensor) or weights.dim() != 2 or "out" in kwargs:
        return None
    drawn, wide = draws(weights), weights.double()
    if not bool(((wide >= 0) & (wide < math.inf)).all() and (wide.sum(1) > 0).all()):
        raise RuntimeError("multinomial: the weights must be >= 0 and finite, and not all 0 in a row")
    times: Tensor = -drawn.rand(tuple(weights.shape), dtype=torch.float64, device=weights.device).log()
    return (wide / times.clamp_min(2.0**-40)).argmax(1, keepdim=True)


def _seeded(draws: Draws, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    owner = args[0] if args and isinstance(args[0], Tensor) else kwargs.get("input")
    given = owner.device if isinstance(owner, Tensor) else kwargs.get("device")
    device = torch.empty(0, device=given).device
    drawn = draws(torch.empty(1, device=device))
    generator = torch.Generator(device).manual_seed(seed_of(drawn))
    return func(*args, **{**kwargs, "generator": generator})


def seed_of(drawn: Noise) -> int:
    """A seed for torch's generators."""
    words = (drawn.rand((1, 2), dtype=torch.float64) * 2**24).long()[0].tolist()
    return int(words[0] << 25 | words[1])


def _like(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """A tensor of the shape, the dtype and the device of what is asked for, or None where it has no
    floats of one of our dtypes."""
    if kwargs.get("out") is not None or kwargs.get("names") is not None:
        return None
    options = {name: kwargs.get(name) for name in ("dtype", "device")}
    if func in (torch.randn_like, torch.rand_like):
        x = args[0] if args else kwargs["input"]
        like = torch.empty_like(x, **{name: value for name, value in options.items() if value is not None})
    else:
        size = kwargs.get("size", args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
        like = torch.empty(tuple(size), **options)
    return like if like.dtype in FLOATS else None


def _next(draws: Draws, like: Tensor) -> Any:
    return draws(like.reshape(_sizes(like)))


def _sizes(like: Tensor) -> tuple[int, ...]:
    """Its shape, with a sample where there is no dimension."""
    return tuple(like.shape) or (1,)


def _as_asked(drawn: Tensor, kwargs: dict[str, Any]) -> Tensor:
    drawn = drawn.pin_memory() if kwargs.get("pin_memory") else drawn
    return drawn.requires_grad_() if kwargs.get("requires_grad") else drawn


def _filled(draw: Draw, plain: tuple[float, float]) -> Draw:
    """``normal_(mean, std)`` or ``uniform_(low, high)``, in place."""

    def fill(draws: Draws, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        x, *given = args
        names = ("mean", "std") if draw is _normal else ("from", "to")
        first, second = (
            given[k] if k < len(given) else kwargs.get(name, plain[k]) for k, name in enumerate(names)
        )
        drawn = draw(draws, torch.rand_like, (x,), {})
        if drawn is None:
            return None
        scale = second if draw is _normal else second - first

        def write() -> None:
            x.copy_(drawn if (first, scale) == (0, 1) else drawn * scale + first)

        in_mode(write, grad=False, inference=torch.is_inference_mode_enabled())
        return x  # type: ignore[no-any-return]

    return fill


_DRAWS: dict[Any, Draw] = {
    torch.randn: _normal,
    torch.randn_like: _normal,
    torch.rand: _uniform,
    torch.rand_like: _uniform,
    torch.randint: _integers,
    torch.multinomial: _index,
    torch.Tensor.multinomial: _index,
    torch.Tensor.normal_: _filled(_normal, (0.0, 1.0)),
    torch.Tensor.uniform_: _filled(_uniform, (0.0, 1.0)),
}
_BY_GENERATOR = {
    torch: ("normal", "bernoulli", "poisson", "binomial", "randint_like", "randperm", "_standard_gamma"),
    torch.Tensor: (
        "bernoulli", "bernoulli_", "exponential_", "cauchy_", "geometric_", "log_normal_", "random_",
    ),
}  # fmt: skip
for _owner, _names in _BY_GENERATOR.items():
    _DRAWS |= dict.fromkeys((getattr(_owner, name) for name in _names), lambda *_: None)
