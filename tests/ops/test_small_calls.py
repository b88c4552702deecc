"""Small calls in one compiled step: the bits of the way through Python, for plain calls alone."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, levels, normal
from torch.autograd import forward_ad, profiler
from torch.utils.flop_counter import FlopCounterMode

import pyebm
from pyebm import Noise, _small_calls

pytestmark = pytest.mark.skipif(_small_calls._C is None, reason="the library is built without Python.h")

X, G, ETA = normal(6, 5), normal(6, 5, seed=1), levels(6)
NOISE = Noise(3, first_sample=2, step=4, stream=1)
# Each with what the public function of that name is given before its options.
CALLS = {
    "randn": (NOISE, (6, 5)),
    "rand": (NOISE, (6, 5)),
    "perturb": (X, 0.5, NOISE),
    "langevin_step": (X, G, 0.1, NOISE),
    "langevin_step_": (X, G, 0.1, NOISE),
    "affine_step": (X, G, 0.9, 0.1, 0.2, NOISE),
}
OF_TENSORS = [name for name in CALLS if "rand" not in name]


def compiled(name, *args, **options):
    """What the compiled step gives; samples that it may write are copied."""
    return getattr(_small_calls._C, name)(*fresh(name, args), **options)


def public(name, *args, **options):
    call = getattr(Noise if "rand" in name else pyebm, name)
    return call(*fresh(name, args), **options)


def fresh(name, args):
    return (args[0].clone(), *args[1:]) if name == "langevin_step_" else args


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("shape", [(1,), (64, 2), (3, 1, 7), (2, 1025), (1024, 32), (5, 3, 1, 2)])
@pytest.mark.usefixtures("simd")
def test_the_bits_of_the_other_way(name, shape):
    ids = 7 * torch.arange(shape[0]) + 1
    for dtype, noise in (
        (torch.float32, Noise(-(2**63), step=2**32 - 1)),
        (torch.float64, Noise(2**64 - 1)),
        (torch.float32, Noise(-ids, stream=3)),
        (torch.float64, Noise(4, sample_ids=ids)),
        (torch.float32, Noise(-ids, sample_ids=ids.flip(0))),
    ):
        x, g, rows = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1), levels(shape[0])
        for number in (2, 0.25, rows, rows.double(), rows[:1], rows.expand(2, -1).T[:, 0]):
            args = {
                "perturb": (x, number, noise),
                "langevin_step": (x, g, number, noise),
                "langevin_step_": (x, g, number, noise),
                "affine_step": (x, g, -0.5, number, 0.25, noise),
            }.get(name, (noise, shape))
            options = {"dtype": dtype} if "rand" in name else {}
            got = compiled(name, *args, **options)
            assert_equal(got, public(name, *args, **options, backend="cpu"))
            assert type(got) is torch.Tensor
            assert not got.requires_grad


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("randn", {"device": "cpu", "backend": None}),
        ("randn", {"device": torch.device("cpu"), "dtype": torch.float64}),
        ("perturb", {"alpha": -0.5}),
        ("perturb", {"alpha": ETA, "backend": None}),
        ("langevin_step", {"temperature": 0, "clamp": None, "mask": None, "score_clip": None}),
        ("langevin_step_", {"temperature": ETA}),
        ("affine_step", {"mask": None, "clamp": None, "backend": None}),
    ],
)
def test_options(name, options):
    want = public(name, *CALLS[name], **options | {"backend": "cpu"})
    assert_equal(compiled(name, *CALLS[name], **options), want)
    assert_equal(public(name, *CALLS[name], **options), want)


def test_arguments_by_name():
    got = _small_calls._C.perturb(noise=NOISE, x=X, sigma=0.5)
    assert_equal(got, pyebm.perturb(X, 0.5, NOISE, backend="cpu"))


# Calls that are not plain, some of them wrong: the function, its arguments, its options.
OTHERS = [
    ("randn", (NOISE, [6, 5]), {}),
    ("randn", (NOISE, ()), {}),
    ("randn", (NOISE, (0, 5)), {}),
    ("randn", (NOISE, (-1, 5)), {}),
    ("randn", (NOISE, (2**70, 5)), {}),
    ("randn", (NOISE, (True, 5)), {}),
    ("randn", (NOISE, (6, 5.0)), {}),
    ("randn", (NOISE, (2, 2**14 + 1)), {}),
    ("randn", (NOISE, (2**40, 2**40)), {}),
    ("randn", (NOISE, (1,) * 9), {}),
    ("randn", (NOISE,), {}),
    ("randn", (NOISE, (6, 5), torch.float64), {}),
    ("randn", (NOISE, (6, 5)), {"dtype": torch.float16}),
    ("randn", (NOISE, (6, 5)), {"device": "meta"}),
    ("randn", (NOISE, (6, 5)), {"device": None}),
    ("randn", (NOISE, (6, 5)), {"backend": "cpu"}),
    ("randn", (NOISE, (6, 5)), {"shape": (6, 5)}),
    ("randn", (NOISE, (6, 5)), {"generator": None}),
    ("randn", (None, (6, 5)), {}),
    ("randn", (Noise(torch.arange(7)), (6, 5)), {}),
    ("rand", (Noise(0, sample_ids=torch.arange(1)), (6, 5)), {}),
    ("langevin_step", (X, G, 0.1, Noise(0, sample_ids=torch.arange(5))), {}),
    ("randn", (Noise(0, first_sample=2**32 - 5), (6, 5)), {}),
    ("perturb", (X, 0.5), {}),
    ("perturb", (X, 0.5, NOISE, 1.0), {}),
    ("perturb", (X, -0.5, NOISE), {}),
    ("perturb", (X, float("nan"), NOISE), {}),
    ("perturb", (X, 2**2000, NOISE), {}),
    ("perturb", (X, True, NOISE), {}),
    ("perturb", (X, "0.5", NOISE), {}),
    ("perturb", (X, None, NOISE), {}),
    ("perturb", (X, -ETA, NOISE), {}),
    ("perturb", (X, ETA[:3], NOISE), {}),
    ("perturb", (X, ETA[:2].repeat_interleave(15), NOISE), {}),
    ("perturb", (X, ETA[:, None], NOISE), {}),
    ("perturb", (X, ETA.half(), NOISE), {}),
    ("perturb", (X, ETA.to("meta"), NOISE), {}),
    ("perturb", (X, ETA.clone().requires_grad_(), NOISE), {}),
    ("perturb", (X, 0.5, NOISE), {"alpha": None}),
    ("perturb", (X, 0.5, 3), {}),
    ("perturb", ([1.0], 0.5, NOISE), {}),
    ("perturb", (X.tolist(), 0.5, NOISE), {}),
    ("langevin_step", (X, G, 0.1, NOISE), {"mask": X > 0}),
    ("langevin_step", (X, G, 0.1, NOISE), {"return_mean": True}),
    ("langevin_step", (X, G, 0.1, NOISE), {"clamp": (0, 1)}),
    ("langevin_step", (X, G, 0.1, NOISE), {"temperature": -1}),
    ("langevin_step", (X, G, 0.0, NOISE), {}),
    ("langevin_step", (X, G[:3], 0.1, NOISE), {}),
    ("langevin_step", (X, G.half(), 0.1, NOISE), {}),
    ("langevin_step", (X, G.double(), 0.1, NOISE), {}),
    ("affine_step", (X, G, 0.9, 0.1, float("inf"), NOISE), {}),
]


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case[0])
def test_other_calls_are_left_to_python(case):
    """They get what Python gives or says without the compiled step."""
    name, args, options = case
    assert compiled(name, *args, **options) is None
    call = getattr(Noise if "rand" in name else pyebm, name)
    with_step, without = outcome(call, args, options), outcome(call.__wrapped__, args, options)
    if isinstance(without, torch.Tensor) and not without.is_meta:
        assert_equal(with_step, without)
    else:
        assert type(with_step) is type(without)
        assert str(with_step) == str(without)


def outcome(call, args, options):
    try:
        return call(*args, **options)
    except Exception as error:
        return error


@pytest.mark.parametrize("name", OF_TENSORS)
@pytest.mark.parametrize(
    "other",
    [
        lambda x: x.half(),
        lambda x: x.to("meta"),
        lambda x: x.clone().requires_grad_(),
        lambda x: torch.nn.Parameter(x, requires_grad=False),
        lambda x: x.T.contiguous().T,
        lambda x: x[:, :3],
        lambda x: x[:0],
        lambda x: x[0, 0],
        lambda x: torch._neg_view(x),
        lambda x: x.to_sparse(),
        lambda x: x.repeat(2**11, 1),
        lambda x: torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged),
        lambda x: torch._efficientzerotensor(x.shape),
    ],
)
def test_other_samples_are_left_to_python(name, other):
    args = (other(X), *CALLS[name][1:])
    assert getattr(_small_calls._C, name)(*args) is None


def test_memory_that_is_gone():
    x = X.clone()
    x.untyped_storage().resize_(8)
    assert _small_calls._C.perturb(x, 0.5, NOISE) is None


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "watcher",
    [
        lambda: torch.device("cpu"),
        lambda: FlopCounterMode(display=False),
        lambda: torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True),
        profiler.profile,
        forward_ad.dual_level,
    ],
)
def test_nothing_that_wants_to_see_every_op_misses_one(name, watcher):
    args = fresh(name, CALLS[name])
    with watcher():
        assert getattr(_small_calls._C, name)(*args) is None
    assert getattr(_small_calls._C, name)(*args) is not None


@pytest.mark.filterwarnings("ignore:.*jit.trace:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_transforms_and_tracers_see_every_op():
    seen = []

    def call(x):
        seen.append(_small_calls._C.perturb(X, 0.5, NOISE))
        return pyebm.perturb(x, 0.5, NOISE)

    x = X.clone()
    torch.func.vmap(call, randomness="same")(torch.stack([x, x]))
    torch.func.grad(lambda x: call(x).sum())(x)
    traced = torch.jit.trace(call, (x,), check_trace=False)
    assert seen == [None] * 3
    assert_equal(traced(-x), pyebm.perturb(-x, 0.5, NOISE))


def test_gradients_are_followed_unless_they_are_off():
    x = X.clone().requires_grad_()
    assert pyebm.perturb(x, 0.5, NOISE).requires_grad
    with torch.no_grad():
        assert_equal(_small_calls._C.perturb(x, 0.5, NOISE), pyebm.perturb(X, 0.5, NOISE))


def test_the_strides_are_those_of_the_samples():
    x = normal(4, 1, 3, 1).to(memory_format=torch.channels_last)
    assert x.is_contiguous()
    assert x.stride() != x.contiguous().clone(memory_format=torch.contiguous_format).stride()
    assert compiled("perturb", x, 0.5, NOISE).stride() == pyebm.perturb(x, 0.5, NOISE, backend="cpu").stride()


def test_in_place():
    x = X.clone()
    version = x._version
    assert _small_calls._C.langevin_step_(x, G, 0.1, NOISE) is x
    assert x._version == version + 1
    assert_equal(x, pyebm.langevin_step(X, G, 0.1, NOISE, backend="cpu"))


def test_an_overlap_writes_nothing():
    memory = normal(8, 5)
    before = memory.clone()
    assert _small_calls._C.langevin_step_(memory[1:7], memory[:6], 0.1, NOISE) is None
    assert_equal(memory, before)


def test_results_can_be_used_as_any_tensor():
    z = compiled("randn", NOISE, (6, 5))
    z.resize_(7, 5).requires_grad_().square().sum().backward()
    with torch.inference_mode():
        assert compiled("randn", NOISE, (6, 5)).is_inference()


def test_no_tensor_is_held():
    x, sigma, name = X.clone(), ETA.clone(), NOISE._name
    kept = [t._use_count() for t in (x, sigma, name)]
    for _ in range(3):
        for bad in (sigma, -sigma, sigma[:2], None):
            made = _small_calls._C.perturb(x, bad, NOISE)
            assert made is None or made._use_count() == 1
        assert _small_calls._C.langevin_step(x, x[:3], sigma, NOISE) is None
    del made
    assert [t._use_count() for t in (x, sigma, name)] == kept


def test_a_library_of_another_version_takes_no_objects():
    assert _small_calls._C.prepare(torch.Tensor) is False
    assert compiled("randn", NOISE, (6, 5)) is not None


@pytest.mark.parametrize("seed", [0, -1, -(2**63), 2**63 - 1, 2**63, 2**64 - 1])
def test_names(seed):
    words = ((seed + 2**63) % 2**64 - 2**63, 2**32 - 1, 7, 2**32 - 2)
    noise = Noise(seed, first_sample=words[1], step=words[2], stream=words[3])
    assert noise._name.dtype == torch.int64
    assert noise._name.tolist() == list(words)
    assert_equal(_small_calls._C.name_tensor(*words), noise._name)


@pytest.mark.parametrize("words", [(2**63, 0, 0, 0), (0.0, 0, 0, 0), (True, 0, 0, 0), (0, 0, 0)])
def test_what_is_no_name(words):
    assert _small_calls._C.name_tensor(*words) is None
