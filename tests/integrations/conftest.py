"""One thread for these tests: their tensors are small, and on a busy machine waiting for a second
thread takes longer. With PYEBM_FIGURES they write a table of their comparisons."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread_each() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    if "PYEBM_FIGURES" in os.environ:
        import figures

        figures.write(Path(os.environ["PYEBM_FIGURES"]))
