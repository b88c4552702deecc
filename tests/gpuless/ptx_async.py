"""cp.async for ptx_ops.py: a copy to shared memory arrives when its group has been waited for, and
no earlier."""

from __future__ import annotations

import numpy as np
from ptx_memory import PtxError
from ptx_threads import Threads


def copy_async(threads: Threads, op: list[str], operands: list[str], mask: np.ndarray) -> bool:
    """Groups are taken to be the same for all threads: no kernel of ours commits or waits where
    they part ways."""
    if op[2] == "commit_group":
        threads.copies.append([])
    elif op[2] == "wait_group":
        while len(threads.copies) - 1 > int(operands[0], 0):
            for who, address, data in threads.copies.pop(0):
                threads.shared.store(threads.block[who], threads.thread[who], address, data)
    elif op[2] in ("ca", "cg"):
        who, size = np.nonzero(mask)[0], int(operands[2], 0)
        taken = threads.value(operands[3], "u", 32)[who] if len(operands) > 3 else np.full(len(who), size)
        if not ((taken == 0) | (taken == size)).all():
            raise PtxError("only a copy of all bytes or of zeros is known here")
        data = np.zeros((len(who), size), np.uint8)
        source, to = threads.address(operands[1])[who], threads.address(operands[0])[who]
        data[taken == size] = threads.memory.load(source[taken == size], size)
        threads.copies[-1].append((who, to, data))
    else:
        return False
    return True
