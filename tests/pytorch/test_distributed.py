"""Two gloo processes: DTensors sharded by samples have the bits of the whole batch; DDP and FSDP2
train as one process does.

The processes start once and run every check; each test then reports what its check raised.
"""

from __future__ import annotations

import traceback

import fresh
import many_processes
import pytest
import torch
import torch.distributed as dist
from cases import assert_equal, normal
from training_of_two import ddp, fsdp, samplers

import pyebm
from pyebm import Noise

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo here"
)

NAMES = {
    "ids": Noise(3, first_sample=5, step=2, stream=1),
    "listed": Noise(-9, sample_ids=torch.arange(8) ** 2),
    "seeds": Noise(torch.arange(8) - 4, first_sample=3),
    "counter": pyebm.NoiseCounter(Noise(4, step=7)),
}
REDUCTIONS = ("none", "sample", "sum", "mean", "batchmean")
EXACT = ("none", "sample")


def placed(x, where="shards"):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh

    return distribute_tensor(
        x, init_device_mesh("cpu", (2,)), [Shard(0) if where == "shards" else Replicate()]
    )


def same(got, want):
    """Asserts that the ranks' parts together have these bits."""
    assert got.shape == want.shape
    assert_equal(got.full_tensor(), want)


def perturb(where):
    for batch in (8, 7, 1):  # even shards, uneven ones, an empty one
        x, sigma = normal(batch, 6), normal(batch).abs() + 0.1
        want = pyebm.perturb(x, sigma, NAMES["ids"], alpha=0.5)
        for levels in (sigma, placed(sigma, where), placed(sigma, "copies"), sigma[:, None]):
            same(pyebm.perturb(placed(x, where), levels, NAMES["ids"], alpha=0.5), want)
    x = normal(8, 3, 4, 4).to(memory_format=torch.channels_last)
    for noise in NAMES.values():
        got = pyebm.perturb(placed(x, where), 0.5, noise)
        same(got, pyebm.perturb(x, 0.5, noise))
        assert got.stride() == placed(x, where).stride()
    leaf, whole = placed(x, where).requires_grad_(), x.clone().requires_grad_()
    (pyebm.perturb(leaf, 0.5, NAMES["ids"], alpha=0.3) ** 2).sum().backward()
    (pyebm.perturb(whole, 0.5, NAMES["ids"], alpha=0.3) ** 2).sum().backward()
    assert_equal(leaf.grad.full_tensor(), whole.grad)


def losses(where):
    score, z, x0 = normal(8, 6), normal(8, 6, seed=1), normal(8, 6, seed=2)
    sigma = normal(8, seed=3).abs() + 0.1
    for reduction in REDUCTIONS:
        calls = [
            lambda s, _, r=reduction: pyebm.dsm_loss(s, sigma, NAMES["ids"], weight="sigma2", reduction=r),
            lambda s, _, r=reduction: pyebm.dsm_loss(s, sigma, z, reduction=r),
            lambda s, place, r=reduction: pyebm.denoising_loss(
                s, place(z), mu=sigma, x0=place(x0), weight=sigma, reduction=r
            ),
            lambda s, _, r=reduction: pyebm.losses.DSMLoss(reduction=r)(s, 0.5, NAMES["seeds"]),
        ]
        for call in calls:
            leaf, whole = placed(score, where).requires_grad_(), score.clone().requires_grad_()
            got, want = call(leaf, lambda t: placed(t, where)), call(whole, lambda t: t)
            if reduction in EXACT or where == "copies":
                same(got, want)
            else:  # the total is the sum of the ranks' sums
                torch.testing.assert_close(got.full_tensor(), want)
            got.sum().backward()
            want.sum().backward()
            assert leaf.grad.placements == leaf.placements
            assert_equal(leaf.grad.full_tensor(), whole.grad)


def uneven_losses(where):
    for batch in (7, 1, 0):
        score = normal(batch, 6)
        for reduction in REDUCTIONS:
            leaf, whole = placed(score, where).requires_grad_(), score.clone().requires_grad_()
            got = pyebm.dsm_loss(leaf, 0.5, NAMES["ids"], reduction=reduction)
            want = pyebm.dsm_loss(whole, 0.5, NAMES["ids"], reduction=reduction)
            torch.testing.assert_close(got.full_tensor(), want, equal_nan=True)
            got.sum().backward()
            want.sum().backward()
            torch.testing.assert_close(leaf.grad.full_tensor(), whole.grad)


def steps(where):
    x, g, mask = normal(7, 6), normal(7, 6, seed=1), normal(7, 6, seed=2) > 0
    eta = normal(7, seed=3).abs() + 0.1
    noise = NAMES["ids"]
    options = {"clamp": (-1.0, 1.0), "return_mean": True}
    for kept in (mask, mask[:1], mask[0]):
        want = pyebm.langevin_step(x, g, eta, noise, mask=kept, temperature=0.5, **options)
        for got, whole in zip(
            pyebm.langevin_step(
                placed(x, where), placed(g, where), eta, noise, mask=kept, temperature=0.5, **options
            ),
            want,
            strict=True,
        ):
            same(got, whole)
    same(
        pyebm.affine_step(placed(x, where), g=placed(g, where), a=0.5, b=eta, c=0.1, noise=noise),
        pyebm.affine_step(x, g, 0.5, eta, 0.1, noise),
    )
    moved, whole = placed(x.clone(), where), x.clone()
    assert pyebm.langevin_step_(moved, placed(g, where), 0.1, noise) is moved
    same(moved, pyebm.langevin_step_(whole, g, 0.1, noise))


def replicated_operands(where):
    """The gradient of a tensor that every rank has is the sum of the gradients from the ranks'
    samples."""
    x, g, weight = normal(7, 6), normal(7, 6, seed=1), normal(7, 6, seed=4)
    leaf, whole = placed(g, "copies").requires_grad_(), g.clone().requires_grad_()
    made = pyebm.langevin_step(placed(x, where), leaf, 0.1, NAMES["ids"])
    (made * placed(weight, where)).sum().backward()
    (pyebm.langevin_step(x, whole, 0.1, NAMES["ids"]) * weight).sum().backward()
    assert_equal(leaf.grad.full_tensor(), whole.grad)


def targets(where):
    x, target = normal(7, 2), pyebm.targets.DoubleWell()
    mixture = pyebm.targets.GaussianMixture(normal(3, 2, seed=5), 0.5)
    for one in (target, mixture):
        same(one.score(placed(x, where)), one.score(x))
    schedule = torch.linspace(0.01, 0.001, 6)
    for eta in (0.01, [0.01] * 6, schedule, normal(7, seed=1).abs() / 100):
        made = pyebm.langevin_chain(
            placed(x, where), target, 6, eta, NAMES["ids"], thin=2, return_diverged=True
        )
        for got, want in zip(
            made,
            pyebm.langevin_chain(x, target, 6, eta, NAMES["ids"], thin=2, return_diverged=True),
            strict=True,
        ):
            same(got, want)
    leaf, whole = placed(x, where).requires_grad_(), x.clone().requires_grad_()
    pyebm.langevin_chain(leaf, target, 3, 0.01, NAMES["ids"]).sum().backward()
    pyebm.langevin_chain(whole, target, 3, 0.01, NAMES["ids"]).sum().backward()
    assert_equal(leaf.grad.full_tensor(), whole.grad)


def energies(where):
    """energy_score is composed of torch's operations, which know DTensors."""
    x = normal(7, 6)
    same(pyebm.energy_score(lambda x: x.square().sum(1), placed(x, where)), -2 * x)


def refused(where):
    from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor

    x = placed(normal(4, 4), where)
    noise, mesh = NAMES["ids"], x.device_mesh
    columns = distribute_tensor(normal(4, 4), mesh, [Shard(1)])
    target = pyebm.targets.DoubleWell()
    uneven = DTensor.from_local(
        normal(1 + 2 * dist.get_rank(), 4), mesh, [Shard(0)], shape=(4, 4), stride=(4, 1)
    )

    def raises(error, message, call):
        with pytest.raises(error, match=message):
            call()

    for bad in (columns, DTensor.from_local(normal(4, 4), mesh, [Partial()])):
        for call in (
            lambda bad=bad: pyebm.perturb(bad, 0.5, noise),
            lambda bad=bad: pyebm.langevin_step(bad, bad, 0.5, noise),
            lambda bad=bad: pyebm.dsm_loss(bad, 0.5, noise),
            lambda bad=bad: pyebm.denoising_loss(bad, noise),
            lambda bad=bad: pyebm.langevin_chain(bad, target, 2, 0.1, noise),
            lambda bad=bad: target.score(bad),
        ):
            raises(
                ValueError, r"must be sharded by samples, Shard\(0\), or replicated, got the placements", call
            )
    raises(ValueError, "must be split evenly", lambda: pyebm.perturb(uneven, 0.5, noise))
    raises(ValueError, "score must be placed as x", lambda: pyebm.langevin_step(x, columns, 0.5, noise))
    raises(
        TypeError,
        "score must be a plain tensor here, got a DTensor",
        lambda: pyebm.langevin_step(normal(4, 4), x, 0.5, noise),
    )
    raises(
        TypeError,
        "sigma must be a plain tensor here",
        lambda: pyebm.perturb(normal(4, 4), placed(normal(4).abs()), noise),
    )
    few = Noise(0, sample_ids=[0, 1, 2])
    learned = torch.ones(4, requires_grad=True)
    raises(
        ValueError,
        "sigma must be a DTensor like x where it requires grad",
        lambda: pyebm.perturb(x, learned, noise),
    )
    raises(ValueError, "sample_ids names 3 samples, got a batch of 4", lambda: pyebm.perturb(x, 0.5, few))
    sampler = pyebm.samplers.Langevin(torch.neg, 0.1)
    raises(
        TypeError,
        r"Langevin: x0 must be a plain tensor here, got a DTensor; give its to_local\(\)",
        lambda: sampler(x, 2),
    )
    target.barrier.requires_grad_()
    raises(ValueError, "self must not require grad", lambda: target.score(x))


CHECKS = {
    f"{check.__name__} {where}".strip(): (check, where)
    for checks, places in (
        (
            (perturb, losses, uneven_losses, steps, replicated_operands, targets, energies, refused),
            ("shards", "copies"),
        ),
        ((ddp, fsdp, samplers), ("",)),
    )
    for check in checks
    for where in places
}


def work(rank, path, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    for name, (check, where) in CHECKS.items():
        try:
            check(where)
        except BaseException:  # noqa: PERF203
            queue.put((name, f"rank {rank}: {traceback.format_exc()}"))
    dist.barrier()
    dist.destroy_process_group()
    queue.put(None)


@pytest.fixture(scope="module")
def raised(tmp_path_factory):
    """Returns {check: what it raised}."""
    context = many_processes.forks()
    queue = context.Queue()
    path = tmp_path_factory.mktemp("gloo") / "store"
    processes = [context.Process(target=work, args=(rank, path, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found: dict[str, str] = {}
    try:
        for _ in processes:
            while (one := queue.get(timeout=300)) is not None:
                found[one[0]] = one[1]
        for process in processes:
            process.join(60)
    finally:
        for process in processes:
            process.kill()
    return found


@pytest.mark.parametrize("name", CHECKS)
def test_two_processes(name, raised):
    assert name not in raised, raised[name]


def test_without_torch_distributed():
    """Only a caller with DTensors imports the modules for them."""
    source = (
        "import sys, torch, pyebm; pyebm.perturb(torch.nn.Parameter(torch.ones(2, 2)), 0.1, pyebm.Noise(0)); "
    )
    source += "print('torch.distributed.tensor' in sys.modules)"
    done = fresh.python("-c", source)
    assert done.stdout.strip() == "False", done.stderr
