"""A Brownian path that is a function of its noise's name, and of time: for the samplers of
stochastic differential equations, which ask for increments in any order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import bound, check_samples
from .._options import check_callable
from .._streams import PATH, beside
from ..noise import Noise
from ..perturb import perturb
from ._seeds import noise_of_seeds

# The grid is the floats of 20 bits between 2**-32 and 2**32, and 0: an index is a float's exponent
# and mantissa, 26 bits together.
_MANTISSA, _OCTAVES, _DEPTH = 20, 64, 26
_END = 2.0**32


class BrownianPath:
    """A standard Brownian path for each element: ``path(t0, t1)`` is ``W(t1) - W(t0)``, a pure
    function of the noise and the two times.

    Args:
        x: (B, ...), for its shape, dtype and device.
        noise: a :class:`pyebm.Noise` at step 0, since a path takes all steps of its stream ^ 14 <<
            28. Paths that must be independent need streams or seeds of their own.

    An increment does not depend on the order of the queries, on those before, on the batch a sample
    sits in, or on the device. ``path(a, b) + path(b, c)`` is ``path(a, c)`` up to the rounding of
    x's dtype: both are differences of W, which is summed in float64.

    W is the Lévy construction (a Brownian bridge tree) over a fixed grid, the floats of 20
    significant bits: 27 normals make W at one time. The law of the increments between any times is
    exactly Brownian as long as no two of them lie in one cell of the grid, that is, as long as they
    differ by 2^-20 of their size or more (or by 2^-32). The path is the same function on the
    whole real line, |t| < 2^32, so it takes no interval.

    Raises:
        TypeError: x is not a dense floating-point tensor, noise is no Noise, a time is no number.
        ValueError: a noise at another step, or one that does not fit the batch; a time beyond 2^32.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations.brownian import BrownianPath
        >>> path = BrownianPath(torch.zeros(1000, 4), pyebm.Noise(0))
        >>> w = path(0.5, 2.5)
        >>> bool(1.9 < w.var() < 2.1)
        True
        >>> torch.equal(path(2.5, 0.5), -w)
        True
    """

    def __init__(self, x: Tensor, noise: Noise) -> None:
        check_samples("BrownianPath", "x", x)
        if not isinstance(noise, Noise):
            raise TypeError(f"BrownianPath: noise must be a Noise, got {type(noise).__name__}")
        if noise.step != 0:
            raise ValueError(
                "BrownianPath: noise must be at step 0, since a path takes all steps of its stream, got"
                f" step={noise.step}; give each path its own stream"
            )
        self._noise = beside(noise, PATH)
        self._shape, self._dtype, self._device = x.shape, x.dtype, x.device
        # Samplers go from time to time, so an end of one increment is often an end of the next.
        self._ends: dict[float, Tensor] = {}

    def __call__(self, t0: float | Tensor, t1: float | Tensor) -> Tensor:
        """``W(t1) - W(t0)``, like x. The times are numbers, or tensors of one number."""
        return self.increment(t0, t1).to(self._dtype)

    def increment(self, t0: float | Tensor, t1: float | Tensor) -> Tensor:
        """The same in float64."""
        times = [_time("BrownianPath", "t0", t0), _time("BrownianPath", "t1", t1)]
        self._ends = {t: self._ends[t] if t in self._ends else self._at(t) for t in times}
        return self._ends[times[1]] - self._ends[times[0]]

    def _at(self, t: float) -> Tensor:
        w = torch.zeros(self._shape, dtype=torch.float64, device=self._device)
        for node, weight in _hats(abs(t)):
            # Negative times have a path of their own, from W(0) = 0.
            w = perturb(w, weight, self._noise.at(step=node + (t < 0) * 2 ** (_DEPTH + 1)))
        return w


def _hats(t: float) -> Iterator[tuple[int, float]]:
    """The normals whose sum, weighted, is W(t): (number of the normal, weight).

    W on [0, end] is a line to a normal end, and half-way along the grid a normal deviation from the
    line, whose weight at other times falls to 0 at both ends; so again in each half, down to the
    cells of the grid. Inside a cell one more normal gives the bridge's own variance.
    """
    yield 0, t / math.sqrt(_END)
    low, high, level = 0, 1 << _DEPTH, 0
    left, right = 0.0, _END
    while high - low > 1:
        index = (low + high) // 2
        middle = _grid(index)
        deviation = math.sqrt((middle - left) * ((right - middle) / (right - left)))
        share = (t - left) / (middle - left) if t < middle else (right - t) / (right - middle)
        yield (1 << level) + (low >> (_DEPTH - level)), deviation * share
        if t < middle:
            high, right = index, middle
        else:
            low, left = index, middle
        level += 1
    yield (1 << _DEPTH) + low, math.sqrt((t - left) * ((right - t) / (right - left)))


def _grid(index: int) -> float:
    exponent, mantissa = divmod(index, 1 << _MANTISSA)
    return math.ldexp(1 + mantissa / (1 << _MANTISSA), exponent - _OCTAVES // 2) if index else 0.0


def _time(call: str, name: str, t: float | Tensor) -> float:
    value = bound(call, name, t)
    if not -_END < value < _END:
        raise ValueError(f"{call}: {name} must be a time of size below 2**32, got {value}")
    return value


class BrownianTreeNoiseSampler:
    """k-diffusion's class of that name over a :class:`BrownianPath`: a ``noise_sampler`` for the
    samplers named SDE, and for adaptive steps.

    ``sampler(sigma, sigma_next)`` is ``(W(t1) - W(t0)) / sqrt|t1 - t0|``, normals like x, with the
    t of ``transform(sigma)``.

    Args:
        x: as in k-diffusion: for its shape, dtype and device.
        sigma_min, sigma_max: taken, and not used, as the path is the same for any interval.
        seed: an int; a list or a tensor with a seed for each sample, which then depends on that
            alone; a :class:`pyebm.Noise`; None for a fresh seed from torch's default generator.
        transform: of a sigma, as a 0-dim tensor, to the time.

    Example:
        >>> import torch
        >>> from pyebm.integrations.brownian import BrownianTreeNoiseSampler
        >>> x = torch.zeros(4, 3)
        >>> sampler = BrownianTreeNoiseSampler(x, 0.03, 14.6, seed=[7, 8, 9, 10])
        >>> part = BrownianTreeNoiseSampler(x[:2], 0.03, 14.6, seed=[9, 7])
        >>> torch.equal(part(2.0, 1.5), sampler(2.0, 1.5)[[2, 0]])
        True
    """

    tree: BrownianPath

    def __init__(
        self,
        x: Tensor,
        sigma_min: Any = None,  # noqa: ARG002
        sigma_max: Any = None,  # noqa: ARG002
        seed: int | Sequence[int] | Tensor | Noise | None = None,
        transform: Callable[[Tensor], Any] = lambda sigma: sigma,
    ) -> None:
        call = "BrownianTreeNoiseSampler"
        batch = check_samples(call, "x", x)
        check_callable(call, "transform", transform)
        self.transform = transform
        if seed is None or isinstance(seed, int):
            seed = Noise(seed)
        elif not isinstance(seed, Noise):
            count, seed = seed, noise_of_seeds(call, "seed", seed)
            if len(count) != batch:
                raise ValueError(
                    f"{call}: seed must be one number, or {batch}, one a sample of x, got {len(count)}"
                )
        self.tree = BrownianPath(x, seed)
        self._dtype = x.dtype

    def __call__(self, sigma: float | Tensor, sigma_next: float | Tensor) -> Tensor:
        """Normals like x for the step from sigma to sigma_next."""
        call, times = "BrownianTreeNoiseSampler", []
        for name, value in (("sigma", sigma), ("sigma_next", sigma_next)):
            number = bound(call, name, value)
            given = value if isinstance(value, Tensor) else torch.as_tensor(number, device="cpu")
            times.append(_time(call, name, self.transform(given)))
        t0, t1 = times
        if t0 == t1:
            raise ValueError(f"{call}: sigma_next must give another time than sigma, got {t1}")
        return (self.tree.increment(t0, t1) / math.sqrt(abs(t1 - t0))).to(self._dtype)
