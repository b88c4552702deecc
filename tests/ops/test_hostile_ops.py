"""torch.ops.pyebm is public: an op refuses an argument that it can't take, by name, and touches no
memory that isn't its own.

Each op's calls run in a child process, so that one that crashes fails its test alone.
"""

from __future__ import annotations

import os
import pickle
import signal
import traceback
import warnings

import emulated
import hostile_ops
import pytest
import torch

from pyebm import _op_checks, _ops, _schemas
from pyebm._arguments import Shape

OPS = _schemas.OPS
BACKENDS = {
    "cpu": lambda: _ops._REGISTERED,
    "cuda-emulated": lambda: _ops._TEST_BACKENDS[emulated.BACKEND],
    "reference": _ops._reference,
}
CASES = [
    (backend, name)
    for backend in BACKENDS
    for name in OPS
    if backend != "cuda-emulated" or name in BACKENDS[backend]()
]


def in_a_child(function):
    """Runs function() in a child process and returns its list, or what killed the child."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fork warns of threads, but hostile calls start none
        child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            found = function()
        except BaseException:
            found = [traceback.format_exc()]
        os.write(writer, pickle.dumps(found)[:60000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    return pickle.loads(said) if status == 0 else [f"the child ended with status {status}"]


def copies(values):
    return {
        name: value.clone()
        for name, value in values.items()
        if isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.layout is torch.strided
        if value.untyped_storage().nbytes() >= value.nbytes
    }


def unrefused(op, kernel, reduction=1, on_host=True):
    """Describes each hostile call that is not refused, or not by the argument's name, or that
    has changed something."""
    wrong = []
    for argument in op.arguments:
        right = hostile_ops.good(op, reduction, on_host)
        if argument.partner is not None and right[argument.name] is None:
            continue  # the pair is the CPU's
        for what, values in hostile_ops.spoiled(op, argument, right):
            call = f"{op.name}({argument.name}: {what})"
            values = hostile_ops.good(op, reduction, on_host) | values
            before = copies(values)
            try:
                kernel(*values.values())
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                if argument.label not in str(error) and not isinstance(
                    error, NotImplementedError
                ):  # torch's own words for a missing backend
                    wrong.append(f"{call} was refused without its name: {error}")
            else:
                wrong.append(f"{call} was taken")
            after = copies({name: values[name] for name in before})
            wrong += [
                f"{call} changed {name}" for name in before if not torch.equal(before[name], after[name])
            ]
    return wrong


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_hostile_calls_are_refused(backend, name):
    kernel, on_host = BACKENDS[backend]()[name], backend in ("cpu", "reference")
    kernel(*hostile_ops.good(OPS[name], on_host=on_host).values())
    assert not in_a_child(lambda: unrefused(OPS[name], kernel, on_host=on_host))


@pytest.mark.parametrize("name", ["denoising_loss", "denoising_grad"])
@pytest.mark.parametrize("reduction", [0, 4])
def test_hostile_calls_of_other_reductions(name, reduction):
    kernel = _ops._REGISTERED[name]
    kernel(*hostile_ops.good(OPS[name], reduction).values())
    assert not in_a_child(lambda: unrefused(OPS[name], kernel, reduction))


def on_meta(values):
    """Moves tensors to meta, except a network's layout, which is always on the host."""
    return {
        name: value.to("meta") if isinstance(value, torch.Tensor) and name != "layout" else value
        for name, value in values.items()
    }


@pytest.mark.parametrize("name", OPS)
def test_fakes_refuse_the_same(name):
    """Fakes make the same refusals, except about memory, which they don't have, and about
    numbers of parameters, which only the ops know."""
    op, taken = OPS[name], []
    kernel, good, well = _op_checks.fake(op), hostile_ops.good(op), on_meta(hostile_ops.good(op))
    kernel(*well.values())
    for argument in op.arguments:
        flat = argument.tensor is not None and argument.tensor.shape in (Shape.FLAT, Shape.TABLE)
        for what, values in hostile_ops.spoiled(op, argument, good):
            if what.startswith(("over", "sparse", "expanded", "strided", "too little", "meta")) or (
                flat and not what.startswith("torch.")
            ):
                continue
            try:
                kernel(*(well | on_meta(values)).values())
                taken.append((argument.name, what))
            except (ValueError, TypeError):
                pass
    assert not taken
