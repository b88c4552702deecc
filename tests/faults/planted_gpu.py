"""Faults for csrc/cuda and kernels/."""

from planted_cpu import Planted

PLANTED: Planted = {
    "csrc/cuda/chain.cu": [
        ("if (!good) bad = step;", "if (!good) bad = step + 1;", "ops/test_chain"),
        (
            "for (int64_t i = lane; i < in.elements; i += 32) data[",
            "for (int64_t i = lane; i < 32; i += 32) data[",
            "ops/test_chain",
        ),
    ],
    "csrc/cuda/dense_tiles.h": [
        (
            "if (next % kSpan == 0 && next < dim) end_span(next == kSpan, sum);",
            "if (next % kSpan == 0) end_span(true, sum);",
            "targets/test_mixture targets/test_gaussian_full",
        ),
    ],
    "csrc/cuda/langevin.cu": [
        ("sqrt(2.0 * step_size * temperature.at(i))", "sqrt(2.0 * step_size)", "ops/test_langevin"),
        (
            "if (in.mask && !keep[k]) g[k] = value[k] = x[k];",
            "if (in.mask && !keep[k]) value[k] = x[k];",
            "ops/test_langevin",
        ),
    ],
    "csrc/cuda/losses.h": [
        (
            "for (int64_t k = lane; k < parts; k += 32)",
            "for (int64_t k = lane; k < 32; k += 32)",
            "ops/test_losses",
        ),
    ],
    "csrc/cuda/mixture.h": [
        (
            "most = to, sum = sum * factor, total = total * factor;",
            "most = to, sum = sum * factor;",
            "targets/test_mixture gpuless/test_dense_cuda",
        ),
    ],
    "csrc/cuda/network_chain.cu": [("++noise.stream;", "", "gpuless/test_network_cuda")],
    "csrc/cuda/network_hvp.cu": [
        ("change * slopes(l)[at]);", "change);", "gpuless/test_network_hvp_cuda"),
    ],
    "csrc/cuda/network_math.h": [
        (
            "for (int i = whole; i < inputs; ++i, w += pitch) {",
            "for (int i = whole; i < inputs; ++i) {",
            "gpuless/test_network_cuda",
        ),
    ],
    "csrc/cuda/network_tile.h": [
        ("layer.skip && l) {", "layer.skip && l > 2) {", "gpuless/test_network_cuda"),
    ],
    "csrc/cuda/perturb.cu": [
        (
            "static_cast<T>(alpha.at(b)), static_cast<T>(sigma.at(b))",
            "static_cast<T>(alpha.number), static_cast<T>(sigma.at(b))",
            "ops/test_perturb ops/test_coefficients",
        ),
    ],
    "csrc/cuda/reduce.h": [
        (
            "turns = ceil_div(pieces_per_sample, int64_t{1} << log)",
            "turns = pieces_per_sample >> log",
            "ops/test_losses",
        ),
        ("for (int k = 1; k < 1 << (log - 5); ++k)", "for (int k = 1; k < 2; ++k)", "ops/test_losses"),
    ],
    "csrc/cuda/targets.cu": [
        (
            "for (int64_t i = threadIdx.x % 32; i < in.elements; i += 32) {",
            "for (int64_t i = threadIdx.x % 32; i < 32; i += 32) {",
            "ops/test_chain",
        ),
    ],
    "csrc/cuda/targets.h": [
        ("has_after = i + 1 < in_.elements", "has_after = i < in_.elements", "ops/test_chain"),
    ],
    "kernels/batch_sums.py": [
        (
            "value = tl.sum(total, axis=1) * tl.full",
            "value = tl.sum(total, axis=1) + tl.full",
            "interpreted_triton::test_dsm_loss",
        ),
    ],
    "kernels/chain_step.py": [
        ("step + tl.cast(k, tl.uint32)", "step", "interpreted_triton::TestLongSamplesOfCoupledTargets"),
        (
            "values + row * per_sample + tl.cast(k, tl.int64) * per_step",
            "values + row * per_sample",
            "interpreted_triton::TestLongSamplesOfCoupledTargets",
        ),
    ],
    "kernels/coefficients.py": [
        ("w = w / (k * k)", "w = w / k", "interpreted_triton::test_dsm_loss"),
        (
            "share = row * of_a_sample.to(tl.int64) + (cell // stride)",
            "share = (cell // stride)",
            "interpreted_runs::test_every_op",
        ),
    ],
    "kernels/dense_kernels.py": [
        ("varied = tl.fma(varied, factor,", "varied = tl.fma(varied, 1.0,", "interpreted_dense"),
        ("sample += tl.cast(first, tl.uint32)", "sample += 0", "interpreted_dense"),
    ],
    "kernels/functions.py": [
        (
            "tl.where((quadrant & 2) != 0, -sine, sine)",
            "sine",
            "interpreted_triton::TestLongSamplesOfCoupledTargets",
        ),
    ],
    "kernels/langevin.py": [
        (
            "middle = tl.where(free, middle, old)",
            "middle = middle",
            "interpreted_triton::test_step_with_every_option",
        ),
        (
            "g = clamped(g, -bound, bound)",
            "g = clamped(g, bound, bound)",
            "interpreted_triton::test_step_with_every_option",
        ),
    ],
    "kernels/layout.py": [
        (
            "all(t is None or t.data_ptr() % 16 == 0 for t in tensors)",
            "True",
            "gpuless/test_ptx::test_misaligned_tensors",
        ),
        ("elements % (cols * vec) == 0, elements", "elements % cols == 0, elements", "gpuless/test_ptx"),
    ],
    "kernels/loss_kernels.py": [
        (
            "value = value + mu * read(x0",
            "value = value + lam * read(x0",
            "interpreted_triton::test_denoising_loss_with_x0",
        ),
        (
            "write(grad, at, sizes, strides[3], TILE, slope_value * r)",
            "write(grad, at, sizes, strides[3], TILE, r)",
            "interpreted_triton::test_dsm_loss",
        ),
    ],
    "kernels/network_passes.py": [
        ("        pulled = tl.fma(gradient,", "        tl.fma(gradient,", "interpreted_networks"),
        ("if L > 0 and SWEEP != KEPT", "if L > 2 and SWEEP != KEPT", "interpreted_networks"),
    ],
    "kernels/network_kernels.py": [
        ("return tl.minimum(sample, samples - 1) * of_sample", "return sample * 0", "interpreted_networks"),
        ("stream + 1)", "stream)", "interpreted_networks"),
    ],
    "kernels/normal.py": [
        (
            "z = tl.join(tl.join(z0, z2), tl.join(z1, z3))",
            "z = tl.join(tl.join(z0, z1), tl.join(z2, z3))",
            "interpreted_triton::test_normals",
        ),
    ],
    "kernels/scores.py": [
        (
            "tl.where(element + 1 < elements, as_first, nothing)",
            "as_first",
            "interpreted_triton::TestLongSamplesOfCoupledTargets",
        ),
        (
            "squares = added(squares, x * x, at, TILE)",
            "squares = squares",
            "interpreted_triton::TestLongSamplesOfCoupledTargets",
        ),
    ],
    "kernels/tile.py": [
        (
            "sample = tl.load(words + 2) + row.to(tl.uint32)",
            "sample = row.to(tl.uint32)",
            "interpreted_triton::test_normals",
        ),
        (
            "inside = room > K * TILE.UNIT",
            "inside = room >= K * TILE.UNIT",
            "gpuless/test_ptx::test_ops gpuless/test_planted_ptx",
        ),
    ],
}
