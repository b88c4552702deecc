"""These tests are about Triton's compiler: where there is none, there is nothing to collect."""

import importlib.util

collect_ignore_glob = ["test_*.py"] if importlib.util.find_spec("triton") is None else []
