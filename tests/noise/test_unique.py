"""Every (element, sample, step, stream) has numbers of its own, to the ends of 32 bits: 2^32
samples x 2^32 steps.

No test can draw so many. But Philox has an inverse, so it is one-to-one for each seed: the counter
is read back from the words that a Noise names, and it must have element div 4, sample, step and
stream in a word each.
"""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal

from pyebm import Noise
from pyebm.reference import noise as reference

MASK = 2**32 - 1
ENDS = [0, 1, 2, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]


def counter_of(words, seed):
    """Philox4x32-10 backwards: the counter from which a seed makes these words."""
    k0, k1 = seed & MASK, seed >> 32 & MASK
    x0, x1, x2, x3 = words
    i0, i1 = (pow(multiplier, -1, 2**32) for multiplier in (reference._M0, reference._M1))
    for k in range(9, -1, -1):
        key0, key1 = (k0 + k * reference._W0) & MASK, (k1 + k * reference._W1) & MASK
        c0, c2 = x3 * i0 & MASK, x1 * i1 & MASK
        high0, high1 = (reference._M0 * c0 >> 32) & MASK, (reference._M1 * c2 >> 32) & MASK
        x0, x1, x2, x3 = c0, x0 ^ high1 ^ key0, c2, x2 ^ high0 ^ key1
    return x0, x1, x2, x3


@pytest.mark.parametrize("seed", [0, -1, 2**63 + 12345])
def test_the_name_is_read_back_from_the_numbers(seed):
    elements = 9  # of three calls of Philox
    for step in ENDS:
        for stream in ENDS:
            noise = Noise(seed, sample_ids=ENDS, step=step, stream=stream)
            name, _, ids = noise._named(len(ENDS), torch.empty(len(ENDS)))
            words = reference.words(torch.Size((len(ENDS), elements)), name, None, ids)
            calls, samples, steps, streams = counter_of(words, int(name[0]))
            assert_equal(calls, torch.arange(3).expand(len(ENDS), 3))
            assert_equal(samples, torch.tensor(ENDS)[:, None].expand(-1, 3))
            assert (steps == step).all()
            assert (streams == stream).all()
            drawn = reference.uniform(torch.stack(words, -1)).reshape(len(ENDS), -1)[:, :elements]
            assert_equal(noise.rand((len(ENDS), elements)), drawn)  # the kernel's are these words


def test_philox_is_one_to_one():
    """The inverse holds for any counter, also those that no tensor is large enough to reach."""
    counter = torch.randint(0, 2**32, (4, 10_000), generator=torch.Generator().manual_seed(0))
    key = torch.tensor([123, 2**32 - 5])
    words = reference.philox4x32_10(tuple(counter), tuple(key))
    assert_equal(torch.stack(counter_of(words, 123 | (2**32 - 5) << 32)), counter)
