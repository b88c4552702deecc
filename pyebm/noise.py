"""Noise as a pure function: a :class:`Noise` names a sequence of normals and holds none of them.

The contract (docs/noise.md): ``z[b, i] = lane (i mod 4) of normals(Philox4x32-10(key = seed,
counter = (i div 4, sample id of b, step, stream)))``, the same bits on every backend, batch split,
thread count and process count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _ops, _small_calls
from ._derivatives import launched, wanted
from ._memory import in_large_pages
from ._name import WORD, Name, Named, drawn_seed, per_sample, readable, word
from ._options import checked_int, checked_keys, checked_shape, empty, shown

_VERSION = 1
_KEYS = ("version", "seed", "first_sample", "sample_ids", "step", "stream")


class Noise(Name):
    """Names a sequence of standard normals; immutable, a few bytes, and safe to share.

    Args:
        seed: an int of 64 bits (in [-2**63, 2**64)), or an int64 tensor (B,) with a seed per
            sample. ``None`` draws one from torch's default generator for the CPU, so that
            ``torch.manual_seed`` governs it.
        first_sample: the id of the first sample; sample ``b`` of a tensor has id
            ``first_sample + b``.
        sample_ids: int64 tensor (B,), the ids themselves, for shuffled or gathered batches
            (``first_sample`` must be 0). Ids and seeds on another device are copied to the CPU,
            once, and from there to wherever they are used. With seeds per sample,
            ``sample_ids=torch.zeros(B)`` in int64 makes a sample depend on its seed alone.
        step: the Langevin or training step, in [0, 2**32).
        stream: separates the uses of one seed, in [0, 2**32). Two uses that must be independent
            need two streams.

    Raises:
        TypeError: seed or sample_ids of another type or dtype.
        ValueError: a number or an id outside its range, or tensors whose shapes don't fit together.

    Example:
        >>> import torch, pyebm
        >>> noise = pyebm.Noise(0)
        >>> z = noise.randn((4, 3))
        >>> torch.equal(noise.shard(first_sample=2).randn((2, 3)), z[2:])
        True
    """

    __slots__ = ()

    def __init__(
        self,
        seed: int | Tensor | None = None,
        *,
        first_sample: int = 0,
        sample_ids: Tensor | Sequence[int] | None = None,
        step: int = 0,
        stream: int = 0,
    ) -> None:
        seeds = ids = None
        if seed is None:
            seed = drawn_seed()
        elif isinstance(seed, Tensor):
            seed = seeds = per_sample("seed", seed)
        else:
            if type(seed) is not int:
                seed = checked_int("Noise", "seed", seed, ", an int64 tensor (B,) or None")
            if not -(2**63) <= seed < 2**64:
                raise ValueError(f"Noise: seed must fit 64 bits, [-2**63, 2**64), got {shown(seed)}")
        first_sample, step, stream = (
            word("first_sample", first_sample),
            word("step", step),
            word("stream", stream),
        )
        if sample_ids is not None:
            if first_sample != 0:
                raise ValueError(
                    f"Noise: give first_sample or sample_ids, not both; got first_sample={first_sample}"
                )
            ids = per_sample(
                "sample_ids", sample_ids if isinstance(sample_ids, Tensor) else _listed(sample_ids)
            )
            if readable(ids) and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < WORD:
                raise ValueError(
                    f"Noise: sample_ids must be in [0, 2**32), got {int(ids.min())} to {int(ids.max())}"
                )
        if seeds is not None and ids is not None and seeds.shape != ids.shape:
            raise ValueError(
                f"Noise: seed and sample_ids must have one entry per sample each, got {seeds.shape[0]} and"
                f" {ids.shape[0]}"
            )
        self._set(seed, first_sample, step, stream, seeds, ids)

    def at(self, *, step: int | None = None, stream: int | None = None) -> Noise:
        """The same sequence at another step (or on another stream).

        Example:
            >>> import pyebm
            >>> pyebm.Noise(0).at(step=7).step
            7
        """
        new = object.__new__(Noise)
        new._set(
            self._seed,
            self._first_sample,
            self._step if step is None else word("step", step),
            self._stream if stream is None else word("stream", stream),
            self._seeds,
            self._ids,
        )
        return new

    def shard(self, *, first_sample: int) -> Noise:
        """The same sequence for a shard whose first sample has the id ``first_sample`` in the
        whole.

        Raises ValueError for a Noise that lists its samples one by one (sample_ids, or a seed per
        sample): slice those.
        """
        if self._ids is not None or self._seeds is not None:
            raise ValueError(
                "Noise.shard: this Noise lists its samples one by one; slice its seed and sample_ids instead"
            )
        new = object.__new__(Noise)
        new._set(self._seed, word("first_sample", first_sample), self._step, self._stream, None, None)
        return new

    @_small_calls.in_one_step
    def randn(
        self,
        shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        backend: str | None = None,
    ) -> Tensor:
        """The normals themselves, shape ``shape``, whose first dimension counts samples.

        float16 and bfloat16 are the float32 normals rounded once; float64 the same normals widened.

        Equivalent to ``torch.randn(shape)`` in law; the value at ``[b, i...]`` depends on nothing
        but this Noise, ``b`` and ``i``.

        Raises:
            TypeError: dtype is not float16, bfloat16, float32 or float64.
            ValueError: an empty or negative shape, a batch that does not fit this Noise, an unknown
                backend.

        Example:
            >>> import pyebm
            >>> pyebm.Noise(0).randn((2, 3, 8, 8)).shape
            torch.Size([2, 3, 8, 8])
        """
        return self._drawn("randn", "normal_", shape, dtype, device, backend)

    @_small_calls.in_one_step
    def rand(
        self,
        shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        backend: str | None = None,
    ) -> Tensor:
        """Uniforms in (0, 1], shape ``shape``, whose first dimension counts samples: word i mod 4
        of the contract's Philox call.

        They come from the same words as the normals of this Noise, so draw one of the two from a
        name, not both. float16 and bfloat16 are the float32 numbers rounded once (in float16 those
        below 2**-25 become 0); float64 the same, widened.

        Equivalent to ``torch.rand(shape)`` in law; the value at ``[b, i...]`` depends on nothing
        but this Noise, ``b`` and ``i``. Raises as :meth:`randn`.

        Example:
            >>> import pyebm
            >>> u = pyebm.Noise(0).rand((1000, 1))  # one a sample, as accept and reject need it
            >>> bool((u > 0).all() and (u <= 1).all() and 0.45 < u.mean() < 0.55)
            True
        """
        return self._drawn("rand", "uniform_", shape, dtype, device, backend)

    def _drawn(
        self,
        call: str,
        op: str,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str,
        backend: str | None,
    ) -> Tensor:
        shape = checked_shape(f"Noise.{call}", "shape", shape)
        out = in_large_pages(empty(f"Noise.{call}", shape, dtype, device))
        name, seeds, ids = self._named(shape[0], out)
        kernel = _ops.kernels(backend, out)[op]
        if wanted(seeds, ids):  # under vmap seeds and ids may be batched

            def drawn(seeds: Tensor | None, ids: Tensor | None) -> Tensor:
                out = torch.empty(shape, dtype=dtype, device=device)
                kernel(out, name, seeds, ids)
                return out

            return launched(drawn, seeds, ids)
        _ops.call(kernel, (out, name), (seeds, ids))
        return out

    def state_dict(self) -> dict[str, Any]:
        """A dict of plain ints and CPU tensors, from which :meth:`from_state_dict` makes the same
        Noise again."""
        return {
            "version": _VERSION,
            "seed": self.seed,
            "first_sample": self.first_sample,
            "sample_ids": self.sample_ids,
            "step": self.step,
            "stream": self.stream,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Noise:
        """The Noise that ``state_dict()`` described.

        Raises:
            TypeError: a value of another type than ``state_dict()`` gives; a seed of None is one.
            ValueError: another version, keys missing, numbers out of range.

        Example:
            >>> import pyebm
            >>> noise = pyebm.Noise(3, step=10)
            >>> pyebm.Noise.from_state_dict(noise.state_dict()).step
            10
        """
        checked_keys("Noise", "state", state, _KEYS, _VERSION)
        if state["seed"] is None:
            raise TypeError("Noise: state_dict's seed must be an int or an int64 tensor (B,), got None")
        if not isinstance(state["sample_ids"], (Tensor, type(None))):
            raise TypeError(
                "Noise: state_dict's sample_ids must be an int64 tensor (B,) or None, got"
                f" {shown(state['sample_ids'])}"
            )
        return cls(**{key: value for key, value in state.items() if key != "version"})

    def __reduce__(self) -> tuple[Any, ...]:
        return Noise.from_state_dict, (self.state_dict(),)

    def __repr__(self) -> str:
        ids = "" if self._ids is None else f", sample_ids=<{self._ids.shape[0]} ids>"
        seed = self.seed if self._seeds is None else f"<{self._seeds.shape[0]} seeds>"
        return f"Noise({seed}, first_sample={self.first_sample}{ids}, step={self.step}, stream={self.stream})"


_small_calls.prepare(Noise)


def _listed(ids: Any) -> Tensor:
    try:
        return torch.tensor(ids, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(ids, (list, tuple)) and all(isinstance(one, int) for one in ids):
            raise ValueError("Noise: sample_ids must be in [0, 2**32), got ints beyond int64") from None
        raise TypeError(
            f"Noise: sample_ids must be ints or an int64 tensor (B,), got {shown(ids)}: {error}"
        ) from None


def named(op: str, noise: Noise, x: Tensor) -> Named:
    """The tensors that name ``noise`` to a kernel that works on the samples x."""
    if not isinstance(noise, Noise):
        raise TypeError(f"{op}: noise must be a Noise, got {type(noise).__name__}")
    return noise._named(x.shape[0], x)


def as_noise(call: str, noise: Noise | int | torch.Generator) -> Noise:
    """A caller's noise as a Noise: an int n is ``Noise(n)``, and a Generator gives the seed of one.

    Each use of a Generator draws a new seed from it; a Generator on a GPU waits for its device.
    """
    if isinstance(noise, Noise):
        return noise
    if isinstance(noise, torch.Generator):
        drawn = torch.randint(
            -(2**63), 2**63 - 1, (), dtype=torch.int64, generator=noise, device=noise.device
        )
        return Noise(int(drawn))
    if isinstance(noise, (bool, Tensor)) or not hasattr(noise, "__index__"):
        got = type(noise).__name__
        raise TypeError(f"{call}: noise must be a Noise, an int (its seed) or a torch.Generator, got {got}")
    seed = checked_int(call, "noise", noise)
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"{call}: noise must be a seed of 64 bits, [-2**63, 2**64), got {shown(seed)}")
    return Noise(seed)
