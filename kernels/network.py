"""network_score: the score of a network, and its energy; network_chain: many Langevin steps on one,
in one launch. network_passes.py says how a program goes through a network."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from pyebm._arguments import entry
from pyebm._composed.network import check_network
from pyebm._composed.perturb import check_known
from pyebm._schemas import ACTIVATIONS, ChainSteps, NetworkChain, NetworkScore

from . import launch
from .chain import _strides
from .layout import Layout, shape_of
from .network_kernels import network_chain_kernel, network_score_kernel

_ROWS = 16  # samples of a program


class Net(NamedTuple):
    """The constants of a network, besides its layers, that a kernel is compiled for."""

    is_energy: bool
    dim: int
    layers: int
    widest: int  # outputs of a layer
    outputs: int  # the line of a room where the layers' outputs begin
    quadratic: int  # its place in params


class Network:
    """A network as the kernels take it. Its weights are copied, with a row for each input."""

    def __init__(
        self,
        x: Tensor,
        wiring: Tensor,
        params: Tensor,
        biases: Tensor | None,
        rows: int,
        twice: bool = False,
    ) -> None:
        """twice: a room is large enough for second derivatives."""
        numbers = wiring.tolist()
        elements = shape_of(x)[1]
        check_network(numbers, elements or numbers[1], params, biases, (1, rows))
        kind, dim, count, *rest = numbers
        width, at, of_row, of_columns = dim, 0, 0, 0
        slopes = dim * (2 - kind + twice)
        self.layers: list[Any] = []
        parts = []
        for k in range(0, len(rest), 4):
            outputs, activation, residual, skip = rest[k : k + 4]
            inputs = width + dim * skip
            parts.append((at, of_columns, outputs, inputs))
            bias, parameter = at + outputs * inputs, at + outputs * (inputs + 1)
            self.layers += [width, outputs, ACTIVATIONS[activation], residual, skip, at, of_columns]
            self.layers += [bias if biases is None else of_row, parameter, slopes]
            slopes += outputs * (1 - kind) * (4 if twice else 1)
            at, of_row, of_columns, width = (
                parameter + 1,
                of_row + outputs,
                of_columns + outputs * inputs,
                outputs,
            )
        widest = max(rest[0::4])
        self.net = Net(kind == 0, dim, count, widest, slopes, at)
        self.room = (slopes + 2 * widest) * _ROWS
        linear = ACTIVATIONS[rest[-3]] == "identity"
        self.needed = count - 1 if kind == 0 and linear else count  # layers whose values a score needs
        self.params, self.biases = params, params if biases is None else biases
        self.of_sample, self.of_step = 0, 0
        if biases is not None and biases.shape[0] > 1:
            self.of_sample = of_row
        self.columns = params.new_empty(of_columns)
        for start, to, outputs, inputs in parts:
            weights = params[start : start + outputs * inputs].view(outputs, inputs)
            self.columns[to : to + outputs * inputs].view(inputs, outputs).copy_(weights.t())

    def by_step(self) -> None:
        """Makes each row of biases one of a step, not of a sample."""
        self.of_sample, self.of_step = 0, self.of_sample

    def arguments(self, layout: Layout) -> dict[str, Any]:
        return {
            "rooms": self.params.new_empty(layout.blocks * self.room),
            "room": self.room,
            "numbers": self.params,
            "columns": self.columns,
            "biases": self.biases,
            "of_sample": self.of_sample,
            "NET": self.net,
            "LAYERS": tuple(self.layers),
            "T": tl.float64 if self.params.dtype == torch.float64 else tl.float32,
            **layout.arguments,
            "num_warps": 4,
        }


def layout_of(out: Tensor, *others: Tensor | None) -> Layout:
    return Layout(out, *others, most=512 if out.dtype == torch.float64 else 1024, rows=_ROWS)


@entry(NetworkScore)
def network_score(args: NetworkScore) -> None:
    x, energy = args.x, args.energy
    if args.score is None and energy is None:
        raise ValueError("network_score: score or energy must be given")
    network = Network(x, args.layout, args.params, args.biases, x.shape[0])
    if energy is not None and not network.net.is_energy:
        raise ValueError("network_score: a network that gives scores has no energy")
    if not x.numel():
        return
    layout = layout_of(x if args.score is None else args.score, x)
    with launch.on(x.device):
        network_score_kernel[layout.grid](
            args.score,
            x,
            energy,
            COUNT=network.needed if energy is None else network.net.layers,
            **network.arguments(layout),
        )


def _check(steps: ChainSteps, samples: int) -> None:
    launch.check_noise(steps.name, steps.seeds, steps.ids, samples, steps.n_steps)
    for label, rows, positive, per_step in (
        ("step_size", steps.step_size_rows, True, steps.step_size_per_step),
        ("temperature", steps.temperature_rows, False, steps.temperature_per_step),
    ):
        launch.require("network_chain", label, rows, positive, "step" if per_step else "sample")


@entry(NetworkChain)
def network_chain(args: NetworkChain) -> None:
    x, steps = args.x, args.steps
    check_known("network_chain", steps.n_steps, args.known, args.marginals, steps.mask)
    _check(steps, x.shape[0])
    rows = steps.n_steps if args.biases_per_step else x.shape[0]
    network = Network(x, args.layout, args.params, args.biases, rows)
    if args.biases_per_step:
        network.by_step()
    if steps.diverged is not None:
        steps.diverged.fill_(-1)
    if not x.numel() or steps.n_steps == 0:
        return
    layout = layout_of(x, steps.mask, args.known)
    h_rows, h_sample, h_step = _strides(steps.step_size_rows, steps.step_size_per_step)
    t_rows, t_sample, t_step = _strides(steps.temperature_rows, steps.temperature_per_step)
    never = 2**62 if steps.n_steps >= 2**31 else 2**31 - 1
    with launch.on(x.device):
        bad = None
        if steps.diverged is not None:
            kind = torch.int64 if steps.n_steps >= 2**31 else torch.int32
            bad = torch.empty(layout.samples, dtype=kind, device=x.device)
        network_chain_kernel[layout.grid](
            x,
            steps.mask,
            args.known,
            args.marginals,
            steps.states,
            bad,
            of_step=network.of_step,
            n_steps=steps.n_steps,
            thin=steps.thin or 1,
            step_size=steps.step_size,
            temperature=steps.temperature,
            h_rows=h_rows,
            h_sample=h_sample,
            h_step=h_step,
            t_rows=t_rows,
            t_sample=t_sample,
            t_step=t_step,
            low=-math.inf if steps.low is None else steps.low,
            high=math.inf if steps.high is None else steps.high,
            score_clip=math.inf if steps.score_clip is None else steps.score_clip,
            name=steps.name,
            seeds=steps.seeds,
            ids=steps.ids,
            NEVER=never,
            CLAMP=steps.low is not None or steps.high is not None,
            CLIP=steps.score_clip is not None,
            COUNT=network.needed,
            **network.arguments(layout),
        )
        if bad is not None and steps.diverged is not None:
            steps.diverged.copy_(torch.where(bad < steps.n_steps, bad, -1))
