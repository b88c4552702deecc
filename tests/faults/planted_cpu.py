"""Faults for csrc/cpu: {file: [(old text, new text, tests that must fail)]}."""

Planted = dict[str, list[tuple[str, str, str]]]

PLANTED: Planted = {
    "csrc/cpu/loops/affine_step.h": [
        ("std::sqrt(2.0 * step_size[i]", "std::sqrt(step_size[i]", "ops/test_langevin"),
        ("m ? m + at : nullptr, abc[0]", "m, abc[0]", "ops/test_coefficient_runs"),
    ],
    "csrc/cpu/loops/batch_mean.h": [
        (
            "values[0] / static_cast<double>(count)",
            "values[0] / static_cast<double>(width)",
            "ops/test_metropolis_ops",
        ),
    ],
    "csrc/cpu/loops/chain.h": [
        ("if (every_ && (step + 1) % every_ == 0)", "if (every_ && step % every_ == 0)", "ops/test_chain"),
        ("if (first < 0 && !kernels", "if (!kernels", "ops/test_chain"),
        ("(t.per_step() && k == 0)", "false", "ops/test_unused_noise"),
        (
            "noise.drawn(chunk, k, known_buffer_)",
            "noise.drawn(chunk, 0, known_buffer_)",
            "samplers/test_one_launch",
        ),
    ],
    "csrc/cpu/loops/chunk_noise.h": [
        ("same_group && !ids_ && !seeds_", "same_group && !seeds_", "noise/test_noise"),
        ("chunk.width % 4 ||", "", "noise/test_noise"),
    ],
    "csrc/cpu/loops/losses.h": [
        ("reduction == kMean ? samples * elements", "reduction == kMean ? elements", "ops/test_losses"),
    ],
    "csrc/cpu/loops/metropolis.h": [
        ("rows.sizes[i] = m < warmup", "rows.sizes[i] = m <= warmup", "ops/test_metropolis_ops"),
    ],
    "csrc/cpu/loops/metropolis_steps.h": [
        ("tests_(given.noise.on_stream(1))", "tests_(given.noise)", "ops/test_metropolis_chain"),
        (
            "for (int64_t i = 1; i < n_leapfrog_; ++i)",
            "for (int64_t i = 0; i < n_leapfrog_; ++i)",
            "ops/test_metropolis_chain",
        ),
        ("mask[i] ? score[i] : T(0)", "score[i]", "samplers/test_metropolis_options"),
        ("slopes_.root ? 2 : 0", "slopes_.root ? 1 : 0", "samplers/test_metropolis_options"),
    ],
    "csrc/cpu/loops/metropolis_test.h": [
        ("done + k < warmup", "done + k <= warmup", "samplers/test_metropolis_options"),
    ],
    "csrc/cpu/loops/parallel.h": [
        ("body(at, end);", "body(at, std::max(at, end - 1));", "ops/test_threads"),
    ],
    "csrc/cpu/loops/network_pack.h": [
        (
            "pack(weights, room, goes_back);",
            "pack(weights, room, net.is_energy);",
            "ops/test_network_gradient",
        ),
    ],
    "csrc/cpu/loops/network_parts.h": [
        (
            "grad_biases_ + sample * task.biases",
            "grad_biases_",
            "ops/test_network_loss training/test_learned_gradients",
        ),
        ("if (grad_) std::fill(own, own + size, T(0));", "", "ops/test_network_loss"),
    ],
    "csrc/cpu/loops/runs.h": [
        (
            "values_[k] + n, each_[k].data + row);",
            "values_[k] + n, each_[k].data);",
            "ops/test_narrow ops/test_coefficient_runs",
        ),
    ],
    "csrc/cpu/ops/corrector.cpp": [
        ("z * z / (g * g) * factor", "z / g * factor", "ops/test_corrector_step"),
        ("chunk.sample * parts + chunk.element / kChunk", "chunk.sample * parts", "ops/test_corrector_step"),
    ],
    "csrc/cpu/ops/leapfrog.cpp": [
        ("place.round(chunk.count, work);", "", "ops/test_metropolis_ops ops/test_narrow"),
    ],
    "csrc/cpu/ops/losses.cpp": [
        (
            """std::fill(last + some, std::end(last), T(0));
      std::fill(losses + some, std::end(losses), 0.0);
      std::fill(weights + some, std::end(weights), 0.0);""",
            "std::fill(last + some, std::end(last), T(1));",
            "ops/test_losses",
        ),
    ],
    "csrc/cpu/ops/network.cpp": [
        (
            "double* of_block = energy ? energies.data() + block.sample",
            "double* of_block = energy ? energies.data()",
            "ops/test_network_ops",
        ),
    ],
    "csrc/cpu/ops/network_gradient.cpp": [
        ("weights.per_sample() ? sample + r : 0", "0", "ops/test_network_loss"),
    ],
    "csrc/cpu/ops/perturb.cpp": [
        ('runs[1].require("perturb", "sigma", false);', "", "ops/test_bad_coefficients ops/test_perturb"),
    ],
    "csrc/cpu/ops/predicted_step.cpp": [
        ("predicted.round(chunk.count, x0);", "", "ops/test_predicted_step"),
    ],
    "csrc/cpu/ops/predictor_corrector.cpp": [
        (
            "draw(chunk, k, 1 + j), sums",
            "draw(chunk, k, j), sums",
            "samplers/test_one_launch samplers/test_predictor_corrector",
        ),
        (
            "if (corrector == times.correctors - 1) {",
            "if (corrector == 0) {",
            "samplers/test_one_launch samplers/test_predictor_corrector",
        ),
    ],
    "csrc/cpu/ops/targets.cpp": [
        ("static_cast<float>(sum + args.constant)", "static_cast<float>(sum)", "targets/test_target_energy"),
        (
            "for (int64_t k = 1; k < each; ++k)",
            "for (int64_t k = 1; k < std::min<int64_t>(each, 2); ++k)",
            "targets/test_target_energy",
        ),
    ],
    "csrc/cpu/ops/underdamped_chain.cpp": [
        ("(per_step ? k * kCount : 0)", "(per_step ? k * 0 : 0)", "samplers/test_one_launch"),
        ("given_.x.round(block.count, w_.data());", "", "samplers/test_one_launch"),
    ],
    "csrc/cpu/python/objects.h": [
        ("rows->numel() == x.size(0)", "x.numel() % rows->numel() == 0", "ops/test_small_calls"),
        ("!aoti_torch_grad_mode_is_enabled()", "true", "ops/test_small_calls"),
        ("placed[at] || (at", "(at", "ops/test_small_calls"),
        ("of_seeds, seeds) ||", "of_seeds, ids) ||", "ops/test_small_calls"),
    ],
    "csrc/cpu/python/network_losses.cpp": [
        ("!x->is_contiguous()", "false", "training/test_compiled_loss"),
        ("if ((wanted & kOfX) && x->element_size() == 2) return nullptr;", "", "training/test_fused_terms"),
        (
            "tensor.has_value() && (!aoti_torch_grad_mode_is_enabled()",
            "tensor.has_value() && (true",
            "training/test_fused_terms",
        ),
        ("|| (offset + own.numel()) * item > available", "", "training/test_compiled_loss"),
        (
            "if (count != 3 || !known[kTensor] || watched())",
            "if (count != 3 || !known[kTensor])",
            "targets/test_learned_in_pytorch",
        ),
        ("strides, d)", "strides, 0)", "training/test_compiled_loss"),
    ],
    "csrc/cpu/python/small_calls.cpp": [
        ("one <= T(0.5) ?", "one < T(0.4) ?", "training/test_score_matching::test_projections"),
        ("if (!x0 && mu.number != 0) return nullptr;", "", "ops/test_small_losses"),
        ("of.kappa_positive ? std::optional(true)", "false ? std::optional(true)", "ops/test_small_losses"),
        ("seeds.get(),", "Py_None,", "ops/test_small_losses"),
        ("if (!result) throw Raised();", "", "ops/test_small_losses pytorch/test_checkpointing"),
    ],
    "csrc/cpu/simd/chunk_kernels.h": [
        ("+ 0xFFFu + ((magnitude >> 13) & 1u)", "+ 0x1000u", "ops/test_perturb"),
        ("to_halves(load<Wide<float>>(in + i)", "to_halves(load<Wide<float>>(in)", "ops/test_perturb"),
    ],
    "csrc/cpu/simd/vectors.h": [
        ("(Wide<float>)upper - 0x1.0001p39f", "(Wide<float>)upper - 0x1.00012p39f", "noise/test_normals"),
    ],
    "csrc/cpu/simd/vector_groups.h": [
        ("(Wide<int32_t>)(turn.each[i] << 1) < 0", "(Wide<int32_t>)turn.each[i] < 0", "noise/test_normals"),
    ],
    "csrc/common/activations.h": [
        (
            "third = u > 0 ? -lean : lean;",
            "third = lean;",
            "ops/test_network_loss training/test_learned_gradients",
        ),
    ],
    "csrc/cpu/simd/network_gradient.h": [
        ("k ? load<V>(square + at + i) : V{}", "V{}", "ops/test_network_loss"),
        ("square ? fma(curved, half, first) : first", "first", "ops/test_network_loss"),
        ("store(first + at + i, from * slopes);", "store(first + at + i, from);", "ops/test_network_loss"),
    ],
    "csrc/cpu/simd/network_kernels.h": [
        ("return l && !net.layers[l].residual;", "return l;", "ops/test_network_ops ops/test_network_hvp"),
        (
            "memcpy(at_inputs + at, at_outputs + at, n * sizeof(T));",
            "clear(n, at_inputs + at);",
            "ops/test_network_ops",
        ),
    ],
    "csrc/cpu/simd/network_hvp.h": [
        ("scale(n, 2 * net.quadratic,", "scale(n, net.quadratic,", "ops/test_network_hvp"),
    ],
    "csrc/cpu/simd/target_kernels.h": [
        (
            "has_after[(row + 1) * samples.width - 1] = 0;",
            "has_after[samples.width - 1] = 0;",
            "targets/test_targets",
        ),
    ],
    "csrc/cpu/simd/loss_kernels.h": [
        (
            "out[i] = (own.grad * r) * grad_output[decltype(elementwise)::value ? i : row];",
            "out[i] = (own.grad * r) * grad_output[decltype(elementwise)::value ? 0 : row];",
            "ops/test_losses_autograd",
        ),
    ],
}
