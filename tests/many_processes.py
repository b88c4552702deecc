"""Real processes for the tests of several: forked from a server that has torch and pyebm, so that
they start at once."""

from __future__ import annotations

import os
import socket
import time
import traceback

import torch

SECONDS = 60  # longer than any test's processes take


def forks():
    context = torch.multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pyebm", "torch.distributed.checkpoint"])
    return context


class Processes:
    """Runs ``function(*args)`` in as many processes as the world has, each with torchrun's
    variables."""

    def __init__(self, world, function, *args):
        context = forks()
        self.queue = context.Queue()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.processes = [
            context.Process(target=_work, args=(rank, world, port, self.queue, function, args))
            for rank in range(world)
        ]
        self.began = time.monotonic()
        for process in self.processes:
            process.start()

    def results(self):
        """Returns each rank's result, or the last line of its exception."""
        try:
            found = dict(self.queue.get(timeout=SECONDS) for _ in self.processes)
            for process in self.processes:
                process.join(SECONDS)
        finally:
            for process in self.processes:
                process.kill()
        return [found[rank] for rank in range(len(self.processes))]

    def run_still(self):
        """Whether there is something to wait for: a call that ended changes no file any more."""
        return time.monotonic() < self.began + SECONDS and any(one.is_alive() for one in self.processes)

    def kill(self, random):
        """Kills (-9) one of the processes, and the others when they may have had time to notice."""
        one = random.choice(self.processes)
        one.kill()
        time.sleep(random.choice((0.0, 0.1)))
        for process in self.processes:
            process.kill()
            process.join()


def run(world, function, *args):
    return Processes(world, function, *args).results()


def _work(rank, world, port, queue, function, args):
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        made = function(*args)
    except BaseException as error:
        made = traceback.format_exception_only(error)[-1]
    queue.put((rank, made))
