"""Global and shared memory for ptx.py, every access checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, uint8

_MANY = -(1 << 30)


class PtxError(Exception):
    """A fault that a GPU would not have reported."""


def _memory_of(tensor: Tensor) -> Tensor:
    """The tensor's memory from its first element to its last, whatever the strides."""
    reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((reach,), (1,))


class Global:
    """Memory at its own addresses: {address: its bytes}."""

    def __init__(self, buffers: dict[int, np.ndarray]) -> None:
        self.buffers = [buffers[address] for address in sorted(buffers)]
        self.starts = np.array(sorted(buffers), np.uint64)
        self.sizes = np.array([buffer.size for buffer in self.buffers], np.uint64)

    @classmethod
    def holding(cls, tensors: list[Tensor]) -> Global:
        return cls(
            {
                tensor.data_ptr(): _memory_of(tensor).view(uint8).numpy()
                for tensor in tensors
                if tensor.numel()
            }
        )

    def find(self, address: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The buffer that each access of ``size`` bytes falls into, and the offset in it."""
        if (address % np.uint64(size)).any():
            raise PtxError(f"a misaligned access of {size} bytes")
        buffer = np.searchsorted(self.starts, address, side="right") - 1
        offset = address - self.starts[np.maximum(buffer, 0)]
        outside = (buffer < 0) | (offset + np.uint64(size) > self.sizes[np.maximum(buffer, 0)])
        if outside.any():
            raise PtxError(f"an access of {size} bytes out of bounds, by {int(outside.sum())} threads")
        return buffer, offset.astype(np.int64)

    def load(self, address: np.ndarray, size: int) -> np.ndarray:
        buffer, offset = self.find(address, size)
        data = np.empty((len(address), size), np.uint8)
        for k in np.unique(buffer):
            here = buffer == k
            data[here] = self.buffers[k][offset[here, None] + np.arange(size)]
        return data

    def store(self, address: np.ndarray, data: np.ndarray) -> None:
        buffer, offset = self.find(address, data.shape[1])
        for k in np.unique(buffer):
            here = buffer == k
            self.buffers[k][offset[here, None] + np.arange(data.shape[1])] = data[here]


class Unsettled:
    """Which thread wrote a byte of global memory since its block's last barrier: no other may read
    it before the next one."""

    PAGE = 4096

    def __init__(self, threads: int) -> None:
        self.threads = threads  # of a block
        self.pages: dict[int, np.ndarray] = {}  # each byte's writer, or -1

    def _pages(
        self, block: np.ndarray, thread: np.ndarray, address: np.ndarray, size: int
    ) -> Iterator[tuple[int, Any, Any]]:
        """(page, where in it, who) of the bytes that these threads touch."""
        every = (address.astype(np.int64)[:, None] + np.arange(size)).ravel()
        own = np.repeat(block * self.threads + thread, size)
        for page in np.unique(every // self.PAGE):
            here = every // self.PAGE == page
            yield int(page), every[here] % self.PAGE, own[here]

    def store(self, block: np.ndarray, thread: np.ndarray, address: np.ndarray, size: int) -> None:
        for page, at, own in self._pages(block, thread, address, size):
            self.pages.setdefault(page, np.full(self.PAGE, -1))[at] = own

    def load(self, block: np.ndarray, thread: np.ndarray, address: np.ndarray, size: int) -> None:
        for page, at, own in self._pages(block, thread, address, size) if self.pages else ():
            writer = self.pages[page][at] if page in self.pages else own
            if ((writer != -1) & (writer != own)).any():
                raise PtxError(
                    "a race in global memory: what another thread has written since the last barrier is read"
                )

    def barrier(self, blocks: np.ndarray) -> None:
        for writer in self.pages.values():
            writer[np.isin(writer // self.threads, blocks)] = -1

    def warp_barrier(self, block: np.ndarray, thread: np.ndarray) -> None:
        """Every lane of these threads' warps may now read what its warp has written."""
        warps = np.unique((block * self.threads + thread) // 32)
        for writer in self.pages.values():
            writer[np.isin(writer // 32, warps)] = -1


class Shared:
    """Shared memory of each block, 0xFF (NaN) until written; remembers who touched a word since the
    last barrier."""

    def __init__(self, blocks: int, size: int) -> None:
        self.data = np.full((blocks, size), 0xFF, np.uint8)
        words = size // 4 + 1
        self.writer = np.full((blocks, words), -1)
        self.reader = np.full((blocks, words), -1)  # several of warp w: -2 - w; of several warps: _MANY

    def barrier(self, blocks: np.ndarray) -> None:
        self.writer[blocks] = self.reader[blocks] = -1

    def warp_barrier(self, block: np.ndarray, thread: np.ndarray) -> None:
        """Words that only one of these threads' warps has touched are settled."""
        for b, warp in {(int(b), int(t) // 32) for b, t in zip(block, thread, strict=True)}:
            for touched in (self.writer[b], self.reader[b]):
                touched[(touched // 32 == warp) & (touched >= 0) | (touched == -2 - warp)] = -1

    def _check(self, offset: np.ndarray, size: int) -> np.ndarray:
        at = offset.astype(np.int64)
        if (at % size).any():
            raise PtxError(f"a misaligned access of {size} bytes to shared memory")
        if ((at < 0) | (at + size > self.data.shape[1])).any():
            raise PtxError(f"an access of {size} bytes out of the bounds of shared memory")
        return at

    def load(self, block: np.ndarray, thread: np.ndarray, offset: np.ndarray, size: int) -> np.ndarray:
        at = self._check(offset, size)
        for word in range(0, size, 4):
            cell = block, (at + word) // 4
            writer = self.writer[cell]
            if ((writer != -1) & (writer != thread)).any():
                raise PtxError(
                    "a race in shared memory: a word is read that another thread has written since the last"
                    " barrier"
                )
            for warp in np.unique(thread // 32):  # lanes of one warp may read one word in one instruction
                own = thread // 32 == warp
                here = cell[0][own], cell[1][own]
                reader = self.reader[here]
                same = (reader == -1) | (reader == thread[own])
                in_warp = (reader >= 0) & (reader // 32 == warp) | (reader == -2 - warp)
                self.reader[here] = np.where(same, thread[own], np.where(in_warp, -2 - warp, _MANY))
                several = self.reader[here] != thread[own]
                self.reader[here[0][several], here[1][several]] = np.where(
                    self.reader[here][several] == _MANY, _MANY, -2 - warp
                )
        return self.data[block[:, None], at[:, None] + np.arange(size)]

    def store(self, block: np.ndarray, thread: np.ndarray, offset: np.ndarray, data: np.ndarray) -> None:
        size = data.shape[1]
        at = self._check(offset, size)
        for word in range(0, size, 4):
            cell = block, (at + word) // 4
            writer, reader = self.writer[cell], self.reader[cell]
            if ((writer != -1) & (writer != thread)).any() or ((reader != -1) & (reader != thread)).any():
                raise PtxError(
                    "a race in shared memory: a word is written that another thread has touched since the"
                    " last barrier"
                )
            self.writer[cell] = thread
        self.data[block[:, None], at[:, None] + np.arange(size)] = data
        # Several threads that store to one word at once must at least agree, as Triton's redundant
        # lanes do.
        if (self.data[block[:, None], at[:, None] + np.arange(size)] != data).any():
            raise PtxError("a race in shared memory: two threads store different values to a word at once")
