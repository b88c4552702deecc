"""Columns: modes and defaults that are on around a call, tensors of other types, copies of its
objects, and threads."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from calls import NOISE, PARTS, Call, Parts, samples
from cases import assert_equal
from torch.testing._internal.two_tensor import TwoTensor


def inference_mode(call: Call) -> None:
    """Under `torch.inference_mode()`, objects made outside and inside: the same bits."""
    want = call(samples()).detach()
    with torch.inference_mode():
        assert_equal(call(samples()), want)
        assert_equal(call.run(samples(), NOISE, Parts()), want)


def autocast(call: Call) -> None:
    """Under `torch.autocast`: x's dtype, and the bits that come without it."""
    want = [call(samples(dtype)).detach() for dtype in (torch.float32, torch.bfloat16)]
    with torch.autocast("cpu", torch.bfloat16):
        got = [call(samples(dtype)).detach() for dtype in (torch.float32, torch.bfloat16)]
    for one, other in zip(got, want, strict=True):
        assert_equal(one, other)


def default_dtype(call: Call) -> None:
    """Under `torch.set_default_dtype(torch.float64)`: the same bits."""
    want = call(samples()).detach()
    torch.set_default_dtype(torch.float64)
    try:
        got = [call.run(samples(), type(NOISE)(3, step=2), parts) for parts in (PARTS, Parts())]
    finally:
        torch.set_default_dtype(torch.float32)
    assert_equal(got[0].detach(), want)
    torch.testing.assert_close(
        got[1].detach(), want
    )  # numbers that were given in float64, such as a scale of 0.7


def default_device(call: Call) -> None:
    """Under `torch.set_default_device`: CPU tensors give the same bits, names made there among
    them."""
    x, want = samples(), call(samples()).detach()
    torch.set_default_device("meta")
    try:
        parts = Parts().to_empty(device="cpu")
        parts.load_state_dict(PARTS.state_dict())
        got = call.run(x, type(NOISE)(3, step=2), parts).detach()
    finally:
        torch.set_default_device(None)
    assert_equal(got, want)


def deterministic(call: Call) -> None:
    """Under `torch.use_deterministic_algorithms(True)`, which fills new memory with NaN: the same
    bits."""
    want = call(samples()).detach()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(5).isnan().all()
        assert_equal(call(samples()).detach(), want)
    finally:
        torch.use_deterministic_algorithms(False)


def deepcopy(call: Call) -> None:
    """Copies of objects that have been used give the same bits, and keep their type."""
    _copied(call, copy.deepcopy)


def pickled(call: Call) -> None:
    """So do their pickles."""
    _copied(call, lambda value: pickle.loads(pickle.dumps(value)))


def _copied(call: Call, how: Callable[[object], object]) -> None:
    """Used before, the copy being used after the original is gone."""
    parts, noise = Parts(), NOISE.at()
    want = call.run(samples(), noise, parts).detach()
    parts, noise = how((parts, noise))
    assert type(noise) is type(NOISE)
    assert_equal(call.run(samples(), noise, parts).detach(), want)


class Named(torch.Tensor):
    """A subclass without operations of its own, as those of image packages are."""


def subclass(call: Call) -> None:
    """A Parameter, and a subclass without operations of its own: the same bits."""
    want = call(samples()).detach()
    assert_equal(call(samples().as_subclass(Named)).detach().as_subclass(torch.Tensor), want)
    with torch.no_grad():
        assert_equal(call(torch.nn.Parameter(samples())).detach(), want)


def dispatching_subclass(call: Call) -> None:
    """A subclass with a `__torch_dispatch__` of its own: each of its tensors gives the same
    bits."""
    got = call(TwoTensor(samples(), samples()))
    assert isinstance(got, TwoTensor)
    assert_equal(got.a.detach(), call(samples()).detach())


def threads(call: Call) -> None:
    """In four threads at once: the same bits."""
    want = call(samples()).detach()
    with _switching(), ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: call(samples()).detach(), range(8)):
            assert_equal(got, want)


@contextmanager
def _switching() -> Iterator[None]:
    """Python hands over from thread to thread a thousand times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 1000)
    yield
    sys.setswitchinterval(before)
