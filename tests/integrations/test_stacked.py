"""The whole of EDM's random generator: seeds beyond 2^32, dtypes, devices, gradients, torch's own
generators."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal

from pyebm.integrations.edm import StackedRandomGenerator


def test_the_lowest_32_bits_of_a_seed_count():
    whole = StackedRandomGenerator("cpu", [5, 2**32 + 5, 5 - 2**32, 10 * 2**64 + 5]).randn([4, 3])
    assert_equal(whole, whole[:1].expand(4, 3))
    assert_equal(StackedRandomGenerator("cpu", torch.tensor([2**40 + 5])).randn([1, 3]), whole[:1])


def test_torchs_own_generators():
    rnd = StackedRandomGenerator("cpu", [5, 2**32 + 6])
    drawn = [torch.randn(3, generator=one) for one in rnd.generators]
    assert_equal(drawn[1], torch.randn(3, generator=torch.Generator().manual_seed(6)))


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int32, torch.int64, torch.float16, torch.float64]
)
def test_integers_of_every_dtype(dtype):
    drawn = StackedRandomGenerator("cpu", [1, 2]).randint(10, size=[2, 50], dtype=dtype)
    assert drawn.dtype == dtype
    assert_equal(drawn.long(), StackedRandomGenerator("cpu", [1, 2]).randint(10, size=[2, 50]))


def test_options():
    rnd = StackedRandomGenerator("cpu", [1, 2])
    assert rnd.randn([2, 3], requires_grad=True, layout=torch.strided, pin_memory=False).requires_grad
    assert rnd.randn([2, 3], device="meta").is_meta
    assert rnd.randint(3, size=[2, 3], device="meta").is_meta
    assert rnd.randn(torch.Size([2, 3]), dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dtype": torch.int8}, ValueError, "dtype must hold 0 to 999"),
        ({"dtype": torch.bool}, TypeError, "dtype must be of ints or floats"),
        ({"generator": None}, TypeError, "generator must not be given"),
        ({"layout": torch.sparse_coo}, TypeError, "layout must be"),
    ],
)
def test_what_it_refuses(options, error, message):
    with pytest.raises(error, match=message):
        StackedRandomGenerator("cpu", [1, 2]).randint(1000, size=[2, 3], **options)
