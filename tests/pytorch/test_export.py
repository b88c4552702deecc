"""torch.export, strict and not, and AOTInductor packages give eager's bits."""

import shutil

import pytest
import torch

import pyebm
from pyebm import Noise, samplers

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, while it exports
X = torch.linspace(-1, 1, 24).reshape(8, 3)


class _Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.noise, self.target = (
            torch.nn.Linear(3, 3),
            Noise(3, step=5),
            pyebm.targets.DoubleWell(),
        )
        self.sampler, self.chain = samplers.Langevin(torch.neg, 0.1), samplers.Langevin(self.target, 0.1)


class Loss(_Module):
    def forward(self, x):
        x = pyebm.perturb(x, 0.5, self.noise)
        return pyebm.dsm_loss(self.net(x), 0.5, self.noise), pyebm.denoising_loss(
            x, self.noise, reduction="none"
        )


class Step(_Module):
    def forward(self, x):
        x = pyebm.langevin_step(x, self.net(x), 0.1, self.noise, clamp=(-1.0, 1.0))
        return pyebm.affine_step(x, -x, 0.9, 0.1, 0.2, self.noise.at(step=7)), x


class InPlace(_Module):
    def forward(self, x):
        x = x.clone()
        return (pyebm.langevin_step_(x, -x, 0.1, Noise(4, stream=2)),)


class Score(_Module):
    def forward(self, x):
        return self.target.score(x), self.target.energy(x)


class Sampler(_Module):
    def forward(self, x):
        return (
            self.sampler(x, 4, noise=self.noise),
            self.chain(x, 4, noise=self.noise),
            pyebm.langevin_chain(x, self.target, 4, 0.1, self.noise),
        )


def _equal(ours, expected):
    return all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("module", [Loss, Step, InPlace, Score, Sampler])
def test_export(module, strict, tmp_path):
    module = module()
    with torch.no_grad():
        program = torch.export.export(module, (X,), strict=strict)
        torch.export.save(program, tmp_path / "program.pt2")
        for made in (program, program.run_decompositions(), torch.export.load(tmp_path / "program.pt2")):
            for x in (X, X.cos()):
                assert _equal(made.module()(x), module(x))


@pytest.mark.parametrize("strict", [True, False])
def test_export_for_any_batch(strict):
    module = Step()
    shapes = {"x": {0: torch.export.Dim("batch", min=2, max=100)}}
    with torch.no_grad():
        program = torch.export.export(module, (X,), strict=strict, dynamic_shapes=shapes)
        assert _equal(program.module()(X[:5]), module(X[:5]))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs g++")
@pytest.mark.parametrize("module", [Loss, Step, InPlace, Score, Sampler])
def test_aot_inductor(module, tmp_path):
    module = module()
    with torch.no_grad():
        program = torch.export.export(module, (X,))
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "package.pt2")
        )
        loaded = torch._inductor.aoti_load_package(package)
        for x in (X, X.cos()):
            assert _equal(loaded(x), module(x))
