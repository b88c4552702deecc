"""Global and shared memory for ptx.py, every access checked."""

from __future__ import annotations

import numpy as np
from torch import Tensor, uint8


class PtxError(Exception):
    """What a GPU would not have reported."""


def _memory_of(tensor: Tensor) -> Tensor:
    """From its first element to its last, whatever the strides."""
    reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((reach,), (1,))


class Global:
    """The tensors of a launch, at their own addresses."""

    def __init__(self, tensors: list[Tensor]) -> None:
        unique = {tensor.data_ptr(): tensor for tensor in tensors if tensor.numel()}
        ordered = [unique[address] for address in sorted(unique)]
        self.buffers = [_memory_of(tensor).view(uint8).numpy() for tensor in ordered]
        self.starts = np.array(sorted(unique), np.uint64)
        self.sizes = np.array([buffer.size for buffer in self.buffers], np.uint64)

    def find(self, address: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Which buffer each access of ``size`` bytes falls into, and where there."""
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


class Shared:
    """Shared memory of each block, 0xFF (NaN) until written; remembers who touched a word since the last barrier."""

    def __init__(self, blocks: int, size: int) -> None:
        self.data = np.full((blocks, size), 0xFF, np.uint8)
        words = size // 4 + 1
        self.writer = np.full((blocks, words), -1)
        self.reader = np.full((blocks, words), -1)  # -2: several

    def barrier(self, blocks: np.ndarray) -> None:
        self.writer[blocks] = self.reader[blocks] = -1

    def warp_barrier(self, blocks: np.ndarray, threads: np.ndarray) -> None:
        """What these threads alone have touched is settled among their warps."""
        for touched in (self.writer, self.reader):
            some = touched[blocks]
            touched[blocks] = np.where(np.isin(some, threads), -1, some)
        if threads.max(initial=0) < 32:  # one warp: as good as a barrier of the block
            self.barrier(blocks)

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
            writer, reader = self.writer[cell], self.reader[cell]
            if ((writer != -1) & (writer != thread)).any():
                raise PtxError("a race in shared memory: a word is read that another thread has written since the last barrier")
            self.reader[cell] = np.where((reader == -1) | (reader == thread), thread, -2)
        return self.data[block[:, None], at[:, None] + np.arange(size)]

    def store(self, block: np.ndarray, thread: np.ndarray, offset: np.ndarray, data: np.ndarray) -> None:
        size = data.shape[1]
        at = self._check(offset, size)
        for word in range(0, size, 4):
            cell = block, (at + word) // 4
            writer, reader = self.writer[cell], self.reader[cell]
            if ((writer != -1) & (writer != thread)).any() or ((reader != -1) & (reader != thread)).any():
                raise PtxError("a race in shared memory: a word is written that another thread has touched since the last barrier")
            self.writer[cell] = thread
        self.data[block[:, None], at[:, None] + np.arange(size)] = data
        # Several threads that store to one word at once must at least agree, as Triton's redundant lanes do.
        if (self.data[block[:, None], at[:, None] + np.arange(size)] != data).any():
            raise PtxError("a race in shared memory: two threads store different values to a word at once")
