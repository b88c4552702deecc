"""ncsn's losses and ncsnv2's interpolation against the published formulas in plain PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
from cases import assert_equal, normal
from compare import assert_as_good, gradient

from pyebm import Noise
from pyebm.integrations import ncsn, ncsnv2

SHAPE = (6, 5)
NOISE = Noise(1, step=7)
SIGMAS = torch.tensor([2.0, 0.5, 0.05])
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def score(weight):
    return lambda x, *_: -(weight * x).tanh()


def energy(weight):
    return lambda x: (weight * x).cosh().log().sum(1) + 0.1 * x.pow(4).sum(1)


def in_both(function, make, *exact):
    """(loss and gradient) of ours in float32, and of the formula in float32 and float64."""
    results = []
    for run, dtype in ((function, torch.float32), (exact[0], torch.float32), (exact[0], torch.float64)):
        weight = normal(5, seed=5).to(dtype).requires_grad_()
        results.append(gradient(run(make(weight), normal(*SHAPE).to(dtype)), weight))
    return results


def test_order_of_arguments():
    x = normal(*SHAPE)
    ours = ncsn.anneal_dsm_score_estimation(score(1.0), x, LABELS, SIGMAS, 1.5, noise=NOISE)
    assert_equal(ours, ncsnv2.anneal_dsm_score_estimation(score(1.0), x, SIGMAS, LABELS, 1.5, noise=NOISE))


def test_dsm():
    def plain(net, x, sigma=0.3):
        z = NOISE.randn(SHAPE, dtype=x.dtype)
        noisy = (x + sigma * z).requires_grad_()
        s = torch.autograd.grad(-net(noisy).sum(), noisy, create_graph=True)[0]
        return (sigma**2 * s + sigma * z).square().sum(1).mean() / 2

    for triple in zip(
        *in_both(lambda net, x: ncsn.dsm(net, x, 0.3, noise=NOISE), energy, plain), strict=True
    ):
        assert_as_good(*triple)
    images = normal(2, 3, 4, 4)
    z = NOISE.randn(images.shape)
    rows = ((images + z) * -2 + z).square().sum(-1).mean() / 2
    torch.testing.assert_close(ncsn.dsm(lambda x: x.square().flatten(1).sum(1), images, noise=NOISE), rows)


def test_dsm_score_estimation():
    def plain(net, x, sigma=0.3):
        z = NOISE.randn(SHAPE, dtype=x.dtype)
        return (net(x + sigma * z) + z / sigma).square().sum(1).mean() / 2

    ours = lambda net, x: ncsn.dsm_score_estimation(net, x, 0.3, noise=NOISE)  # noqa: E731
    for triple in zip(*in_both(ours, score, plain), strict=True):
        assert_as_good(*triple)


@pytest.mark.parametrize("power", [2.0, 1.5])
def test_the_loss_of_spectra(power):
    """The complex normals of a run without pyebm, and the Noise's."""
    x = normal(6, 2, 4, 4)
    spectra = torch.fft.fftshift(torch.fft.fft2(x, norm="ortho"))
    torch.manual_seed(0)
    drawn = torch.randn_like(spectra)
    weight = normal(4, 4, seed=5)

    def net(weight):
        return lambda parts, labels: -(weight * parts).tanh() / (1 + labels[:, None, None, None])

    def plain(weight, z, dtype):
        sigma = SIGMAS[LABELS][:, None, None, None].to(dtype)
        parts = torch.fft.fftshift(torch.fft.fft2(x.to(dtype), norm="ortho"))
        noisy = parts + sigma * z
        target = -z / sigma
        noisy, target = (torch.cat((value.real, value.imag), 1) for value in (noisy, target))
        each = (net(weight)(noisy, LABELS) - target).flatten(1).square().sum(1) / 2
        return (each * sigma.flatten() ** power).mean()

    results = []
    for dtype, ours in ((torch.float32, True), (torch.float32, False), (torch.float64, False)):
        w = weight.to(dtype).requires_grad_()
        torch.manual_seed(0)
        loss = (
            ncsn.anneal_dsm_score_estimation_freq(net(w), x, LABELS, SIGMAS, power, noise=torch.randn_like)
            if ours
            else plain(w, drawn.to(torch.complex64 if dtype == torch.float32 else torch.complex128), dtype)
        )
        results.append(gradient(loss, w))
    for triple in zip(*results, strict=True):
        assert_as_good(*triple)
    z = NOISE.randn((6, 4, 4, 4)) / math.sqrt(2)
    named = ncsn.anneal_dsm_score_estimation_freq(net(weight), x, LABELS, SIGMAS, power, noise=NOISE)
    torch.testing.assert_close(named, plain(weight, torch.complex(z[:, :2], z[:, 2:]), torch.float32))


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("kind", ["radermacher", "sphere", "gaussian"])
def test_one_direction(partial, kind):
    function = ncsn.partial_sliced_score_matching if partial else ncsn.single_sliced_score_matching
    weight = normal(5, seed=5, grad=True)
    if partial and kind == "sphere":
        with pytest.raises(ValueError, match="noise_type must be"):
            function(energy(weight), normal(*SHAPE), noise_type=kind)
        return
    torch.manual_seed(0)
    v = torch.randn(SHAPE)
    v = v.sign() if kind == "radermacher" else v
    v = v / v.norm(dim=1, keepdim=True) * math.sqrt(5) if kind == "sphere" else v
    x = normal(*SHAPE, grad=True)
    (s,) = torch.autograd.grad(-energy(weight)(x).sum(), x, create_graph=True)
    first, trace = sliced(s, x, v[None], partial)
    expected = gradient((first + trace).mean(), weight)
    for noise, options in ((torch.randn_like, {"noise_type": kind}), (v, {})):
        torch.manual_seed(0)
        loss, score_, _ = function(energy(weight), normal(*SHAPE), noise, **options)
        torch.testing.assert_close(gradient(loss, weight), expected)
        torch.testing.assert_close(score_, s)
    named = [function(energy(weight), normal(*SHAPE), NOISE, noise_type=kind)[0] for _ in range(2)]
    assert_equal(named[0].detach(), named[1].detach())
    assert not function(energy(weight), normal(*SHAPE), NOISE, True, kind)[0].requires_grad


def sliced(s, x, along, vr):
    jacobian = torch.stack([torch.autograd.grad(s[:, i].sum(), x, create_graph=True)[0] for i in range(5)], 1)
    trace = torch.einsum("pbi,bij,pbj->pb", along, jacobian, along).mean(0)
    first = s.square().sum(1) if vr else (along * s).sum(2).square().mean(0)
    return first / 2, trace


@pytest.mark.parametrize("vr", [False, True])
@pytest.mark.parametrize("kind", ["energy", "score"])
@pytest.mark.parametrize("particles", [1, 3])
def test_sliced(kind, vr, particles):
    function = getattr(
        ncsn, f"sliced_score_{'matching' if kind == 'energy' else 'estimation'}{'_vr' if vr else ''}"
    )
    make = energy if kind == "energy" else score
    weight = normal(5, seed=5, grad=True)
    torch.manual_seed(0)
    got = function(make(weight), normal(*SHAPE), particles, noise=torch.randn_like)
    torch.manual_seed(0)
    along = torch.randn(particles * 6, 5).reshape(particles, *SHAPE)
    along = along if vr else along / along.norm(dim=-1, keepdim=True)
    x = normal(*SHAPE, grad=True)
    s = make(weight)(x)
    s = torch.autograd.grad(-s.sum(), x, create_graph=True)[0] if kind == "energy" else s
    first, trace = sliced(s, x, along, vr)
    for one, other in zip(got, ((first + trace).mean(), first.mean(), trace.mean()), strict=True):
        grads = [torch.autograd.grad(value, weight, retain_graph=True)[0] for value in (one, other)]
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(*grads)


def test_sliced_by_name():
    x = normal(*SHAPE)
    whole = ncsn.sliced_score_estimation(score(1.0), x, 3, noise=NOISE)[0]
    parts = [
        ncsn.sliced_score_estimation(score(1.0), x[i : i + 3], 3, noise=NOISE.shard(first_sample=i))[0]
        for i in (0, 3)
    ]
    torch.testing.assert_close(whole, (parts[0] + parts[1]) / 2)
    # The dimension divides the loss along unit vectors.
    many = ncsn.sliced_score_estimation(score(1.0), x, 4000, noise=NOISE)[0]
    exact = (x.tanh().square().sum(1) / 2 - (1 - x.tanh().square()).sum(1)).mean() / 5
    assert abs(many - exact) < 0.02


def test_annealed():
    weight, x = normal(5, seed=5, grad=True), normal(*SHAPE)
    got = ncsn.anneal_sliced_score_estimation_vr(score(weight), x, LABELS, SIGMAS, 2, noise=NOISE)
    sigma = SIGMAS[LABELS]
    noisy = (x + sigma[:, None] * NOISE.randn(SHAPE)).requires_grad_()
    from pyebm.losses._projections import projections

    first, trace = sliced(score(weight)(noisy), noisy, projections("gaussian", NOISE, x, 2), True)
    expected = ((first + trace) * sigma**2).mean()
    torch.testing.assert_close(gradient(got, weight), gradient(expected, weight))


# --- ncsnv2's interpolation


def test_interpolation(capsys):
    x, n = normal(2, 1, 4, 4), 5

    def net(x, labels):
        return -x / (1 + labels[:, None, None, None])

    def plain(draw):
        state, states = x.repeat_interleave(n, 0), []
        angles = torch.linspace(0, math.pi / 2, n)[None, :, None, None, None]
        for c, sigma in enumerate(SIGMAS.tolist()):
            eta = 1e-3 * (sigma / 0.05) ** 2
            for _ in range(3):
                p, q = draw()[:, None], draw()[:, None]
                z = (p * angles.cos() + q * angles.sin()).reshape(-1, 1, 4, 4)
                state = state + eta * net(state, torch.full((10,), c)) + (2 * eta) ** 0.5 * z
                states.append(state)
        return states

    steps = iter(range(100))
    expected = plain(lambda: NOISE.at(step=7 + next(steps)).randn(x.shape))
    run = ncsnv2.anneal_Langevin_dynamics_interpolation
    got = run(x, net, SIGMAS, n, 3, 1e-3, noise=NOISE)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
    assert_equal(run(x, net, SIGMAS, n, 3, 1e-3, True, noise=NOISE)[0], got[-1])
    second = run(x[1:], net, SIGMAS, n, 3, 1e-3, noise=NOISE.shard(first_sample=1))
    assert_equal(second[-1], got[-1][5:])
    torch.manual_seed(0)
    theirs = run(x, net, SIGMAS, n, 3, 1e-3, verbose=True, noise=torch.randn_like)
    torch.manual_seed(0)
    torch.testing.assert_close(theirs[-1], plain(lambda: torch.randn(2, 1, 4, 4))[-1], rtol=1e-5, atol=1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert lines[0].startswith("level: 0, step_size: ")
    assert run(x.half(), net, SIGMAS, n, 3, 1e-3, noise=NOISE)[-1].dtype == torch.float32


def test_what_they_refuse():
    x = normal(*SHAPE)
    for call, message in (
        (lambda: ncsn.dsm(None, x), "energy_net must be"),
        (lambda: ncsn.dsm_score_estimation(score(1.0), x, 0.0), "sigma must be > 0"),
        (lambda: ncsn.sliced_score_estimation(score(1.0), x, 0), "n_particles must be"),
        (lambda: ncsn.anneal_sliced_score_estimation_vr(score(1.0), x, LABELS + 9, SIGMAS), "labels must be"),
        (
            lambda: ncsnv2.anneal_Langevin_dynamics_interpolation(x, score(1.0), SIGMAS, 0),
            "n_interpolations must",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()
