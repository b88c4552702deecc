"""Planted faults that the checkers must report: one that is silent here proves nothing
elsewhere."""

import re

import ptx
import pyebm.kernels
import pytest
import torch
import triton
import triton.language as tl
from compiled import compiling
from measure import nvidia
from ptx_memory import PtxError
from pyebm.kernels.layout import Layout
from pyebm.kernels.noise import noise_kernel
from pyebm.kernels.normal import normals

import pyebm
from pyebm import reference

NOISE = pyebm.Noise(3, step=5, stream=2)
SHAPE = (2, 72)


def run(launch, text=None, blocks=None):
    compiled = launch.compiled
    ptx.launch(
        text or compiled.asm["ptx"],
        launch.grid,
        32 * compiled.metadata.num_warps,
        launch.run_time_arguments,
        compiled.metadata.shared,
        blocks,
    )


def compiled(kernel, grid, *args, target="sm_90", **kwargs):
    with compiling(target) as launches:
        kernel[grid](*args, **{"enable_fp_fusion": False, **kwargs})
    return launches[0]


def own_normals(**options):
    out = torch.full(SHAPE, float("nan"))
    return normals_of(out, **options), out


def normals_of(out, target="sm_90", **options):
    layout = Layout(out)
    arguments = {"UNIFORM": False, **layout.arguments, **options}
    return compiled(noise_kernel, layout.grid, out, NOISE._name, None, None, target=target, **arguments)


def expected():
    return reference.normals(torch.Size(SHAPE), NOISE._name, None, None)


def test_nothing_is_reported_where_nothing_is_wrong():
    launch, out = own_normals()
    run(launch)
    assert torch.equal(out, expected())
    assert not nvidia(launch).forbidden


def test_a_fused_multiply_add():
    launch, out = own_normals(enable_fp_fusion=True)
    assert "fma.rn.f32" in nvidia(launch).forbidden
    run(launch)
    assert not torch.equal(out, expected())
    torch.testing.assert_close(out, expected(), rtol=1e-4, atol=1e-5)


@triton.jit
def _draw(out, name, STREAM: tl.constexpr, LANE: tl.constexpr, TILE: tl.constexpr):
    cell = tl.arange(0, TILE.COLS)
    words = name.to(tl.pointer_type(tl.uint32), bitcast=True)
    sample, step, stream = tl.load(words + 2), tl.load(words + 4), tl.load(words + STREAM)
    z = normals(cell, (tl.load(words), tl.load(words + 1), sample, step, stream), TILE)
    tl.store(out + cell[:, None] * 4 + (tl.arange(0, 4)[None, :] + LANE) % 4, z)


@pytest.mark.parametrize(
    ("stream", "lane", "right"), [(6, 0, True), (4, 0, False), (6, 1, False)], ids=["none", "stream", "lane"]
)
def test_a_wrong_stream_or_lane(stream, lane, right):
    out = torch.empty(1, 512)
    run(compiled(_draw, (1,), out, NOISE._name, STREAM=stream, LANE=lane, TILE=Layout(out).tile))
    assert torch.equal(out, reference.normals(out.shape, NOISE._name, None, None)) is right


@triton.jit
def _double(out, x, n, SLACK: tl.constexpr, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(out + at, tl.load(x + at, mask=at < n + SLACK) * 2, mask=at < n)


@triton.jit
def _double_unmasked(out, x, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(out + at, tl.load(x + at) * 2)


def test_a_missing_mask():
    x = torch.ones(1000)
    with pytest.raises(
        PtxError, match=r"_double_unmasked at test_planted\w*.py:\d+: an access of \d+ bytes out of bounds"
    ):
        run(compiled(_double_unmasked, (4,), torch.empty(1000), x, N=256))


@pytest.mark.parametrize("slack", [0, 1])
def test_a_mask_one_too_long(slack):
    x, out = torch.ones(1001)[:1000].clone(), torch.empty(1000)
    launch = compiled(_double, (4,), out, x, 1000, SLACK=slack, N=256)
    if slack:
        with pytest.raises(PtxError, match="out of bounds"):
            run(launch)
    else:
        run(launch)
        assert torch.equal(out, 2 * x)


def test_a_missing_barrier():
    # The two warps' sums of a loss meet in shared memory.
    x = torch.ones(2, 2048)
    arguments = (torch.empty(2), torch.empty_like(x), x, 0.5, 1.0, 0.0, 1.0, 0.5, True, 1, NOISE._name)
    with compiling("sm_90") as launches:
        pyebm.kernels.OPS["denoising_loss"](*arguments)
    launch = launches[0]
    text = launch.compiled.asm["ptx"]
    run(launch)
    assert "bar.sync" in text
    with pytest.raises(PtxError, match="a race in shared memory"):
        run(launch, re.sub(r"bar\.sync[^;]*;", "", text))


@triton.jit
def _mark(out, stride, WIDE: tl.constexpr):
    start = tl.program_id(0)
    if WIDE:
        start = start.to(tl.int64)
    tl.store(out + start * stride, 1)


@pytest.mark.parametrize("wide", [True, False])
def test_an_int32_offset(wide):
    out = torch.empty(2**31 + 64, dtype=torch.int8)  # never touched as a whole
    launch = compiled(_mark, (3,), out, 2**30, WIDE=wide)
    if wide:
        run(launch)
        assert out[2**31] == 1
    else:
        with pytest.raises(PtxError, match="out of bounds"):
            run(launch)


def test_our_own_offsets_beyond_int32():
    shape = (2, 2**30 + 1024)
    out = torch.empty(shape, dtype=torch.float16)
    layout = Layout(out)
    launch = normals_of(out)
    run(launch, blocks=[layout.programs * layout.blocks - 1])
    count = shape[1] - (layout.programs - 1) * layout.arguments["turns"] * layout.tile.COLS * layout.tile.VEC
    groups = torch.arange((shape[1] - count) // 4, shape[1] // 4)
    seed, _, step, stream = NOISE._name
    words = reference.philox4x32_10(
        (groups, torch.ones_like(groups), step, stream), (seed & 0xFFFFFFFF, seed >> 32)
    )
    lanes = torch.stack((*reference.box_muller(*words[:2]), *reference.box_muller(*words[2:])), dim=-1)
    assert torch.equal(out[1, -count:], lanes.flatten().to(out.dtype))
