"""Many Python threads make the same calls at once: each gives the bits that it gives alone."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from fuzz_calls import make
from outcomes import flat, outcome, same_bits

THREADS, CALLS, ROUNDS = 8, 24, 3


def case(rng: random.Random) -> None:
    torch.set_num_threads(rng.randint(1, 2))
    calls = [make(rng) for _ in range(CALLS)]
    alone = [outcome(lambda call=call: call.run(None)) for call in calls]

    def at_once(place: int) -> Any:
        call = calls[place]
        if call.written:  # in place: each thread writes to a tensor of its own
            return alone[place]
        return outcome(lambda: call.run(None))

    order = [place for place in range(CALLS) for _ in range(ROUNDS)]
    rng.shuffle(order)
    with ThreadPoolExecutor(THREADS) as pool:
        for place, got in zip(order, pool.map(at_once, order), strict=True):
            want = alone[place]
            if isinstance(want, Exception) or isinstance(got, Exception):
                assert type(got) is type(want), f"{calls[place].name}: {got!r:.200}, alone {want!r:.200}"
            else:
                same_bits(flat(got), flat(want))
    for call in calls:
        call.arena.check(*call.written)
        call.arena.release()
