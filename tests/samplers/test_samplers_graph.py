"""graph=True: the replayed step equals the host's and waits for nothing, and each replay on a
device draws fresh noise."""

from __future__ import annotations

import pytest
import sampler_cases
import torch
from cases import assert_equal, normal
from sampler_cases import CASES, STEPS, begin, same
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pyebm import Noise
from pyebm.samplers import Langevin, _density, _graph, _loop

pytestmark = pytest.mark.usefixtures("poison", "one_thread")


@pytest.fixture(params=CASES)
def make(request):
    return CASES[request.param]


@pytest.fixture
def replayed(monkeypatch):
    """graph=True as on a GPU, but without a graph: the same calls in the same order, where a
    "replay" makes the captured call again."""
    captured = []
    monkeypatch.setattr(_graph, "on_the_side", lambda once: once())
    monkeypatch.setattr(_graph, "capture", lambda once: captured.append(once) or once)
    monkeypatch.setattr(_loop, "_capturable", lambda _: True)
    return captured


class NoSync(TorchDispatchMode):
    """Refuses operations that wait for a device: reading a number from a tensor, or a size from
    data."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.FORBIDDEN, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


class TestGraph:
    def test_the_replayed_step_is_the_host_s(self, make, replayed):
        """The step's number is a tensor here; the bits are the same, and the step is captured
        once."""
        x0 = normal(6, 5)
        for steps in (STEPS, 2, 1):
            same(make(x0)(begin(x0), steps, graph=True), make(x0)(begin(x0), steps))
        assert len(replayed) == 1
        half = make(x0)(begin(x0), 5, graph=True)
        same(make(x0)(half, STEPS - 5, graph=True), make(x0)(begin(x0), STEPS))

    @pytest.mark.usefixtures("replayed")
    def test_no_step_waits_for_the_device(self, make, monkeypatch):
        x0, before = normal(6, 5), _graph.Replay._once

        def once(self):
            with NoSync():
                before(self)

        monkeypatch.setattr(_graph.Replay, "_once", once)
        make(x0)(begin(x0), STEPS, graph=True)

    def test_the_check_can_tell(self):
        with NoSync(), pytest.raises(AssertionError, match="waits for the device"):
            float(torch.ones(()))

    @pytest.mark.usefixtures("replayed")
    @pytest.mark.parametrize("graph", [False, True])
    def test_on_a_device_s_fake_tensors(self, make, graph, monkeypatch):
        """Every tensor of a step is on x's device, and none is read: fake CUDA tensors have no
        values."""
        if make in [
            CASES[name] for name in ("langevin-chain", "underdamped-chain", "pc-network", "mala-network")
        ]:
            pytest.skip("making a target reads its numbers")
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
        monkeypatch.setattr(
            torch.Tensor, "copy_", lambda self, other: self.zero_().add_(other)
        )  # the real copy_ asks for the device
        # Autograd on a device that torch is not built for aborts the process.
        monkeypatch.setattr(
            _density, "energy_and_score", lambda _, energy, x: (energy(x), sampler_cases.score(x))
        )
        with FakeTensorMode(allow_non_fake_inputs=False):
            x0 = torch.empty(6, 5, device="cuda")
            for name in ("MASK_ROW", "KNOWN"):
                monkeypatch.setattr(
                    sampler_cases,
                    name,
                    torch.ones(1, 5, device="cuda", dtype=getattr(sampler_cases, name).dtype),
                )
            monkeypatch.setattr(sampler_cases, "KNOWN", torch.ones(6, 5, device="cuda"))
            out = make(x0)(begin(x0), STEPS, graph=graph, thin=4)
        assert out.states.shape == (3, 6, 5)
        assert out.states.device.type == "cuda"

    def test_needs_a_device(self, make):
        x0 = normal(6, 5)
        with pytest.raises(
            ValueError, match="graph=True captures a CUDA graph and so needs x0 on a CUDA device, got cpu"
        ):
            make(x0)(begin(x0), STEPS, graph=True)


@pytest.mark.gpu
class TestOnADevice:
    def test_graph_equals_eager(self, make, monkeypatch):
        x0 = normal(6, 5, device="cuda")
        for name in ("MASK_ROW", "KNOWN"):
            monkeypatch.setattr(sampler_cases, name, getattr(sampler_cases, name).cuda())
        want = make(x0)(begin(x0), STEPS)
        same(make(x0)(begin(x0), STEPS, graph=True), want)
        half = make(x0)(begin(x0), 5, graph=True)
        same(make(x0)(half, STEPS - 5, graph=True), want)

    def test_replays_draw_fresh_noise(self):
        x0 = torch.zeros(64, 3, device="cuda")
        states = Langevin(torch.zeros_like, 0.5)(x0, 20, noise=Noise(1), thin=1, graph=True).states
        increments = torch.diff(states, dim=0, prepend=x0[None])
        assert increments.flatten(1).unique(dim=0).shape[0] == 20
        assert_equal(increments[0].cpu(), Noise(1).randn((64, 3)))

    @pytest.mark.parametrize("graph", [False, True])
    def test_no_loop_waits_for_the_device(self, make, monkeypatch, graph):
        x0 = normal(6, 5, device="cuda")
        for name in ("MASK_ROW", "KNOWN"):
            monkeypatch.setattr(sampler_cases, name, getattr(sampler_cases, name).cuda())
        sampler = make(x0)
        sampler(begin(x0), STEPS, graph=graph)
        torch.cuda.set_sync_debug_mode("error")
        try:
            sampler(begin(x0), STEPS, graph=graph)
        finally:
            torch.cuda.set_sync_debug_mode("default")
