"""Faults for pyebm/."""

from planted_cpu import Planted

PLANTED: Planted = {
    "pyebm/_chain_coefficient.py": [
        (
            "rows=self.rows.narrow(0, first, count)",
            "rows=self.rows.narrow(0, 0, count)",
            "samplers/test_samplers_interrupt",
        ),
    ],
    "pyebm/_composed/functions.py": [
        ("lanes[1:]:", "lanes[2:]:", "ops/test_energy targets/test_target_energy targets/test_targets"),
    ],
    "pyebm/_composed/langevin.py": [
        ("torch.where(mask, mean, work)", "mean", "ops/test_langevin"),
    ],
    "pyebm/_composed/losses.py": [
        ("((2.0 * w) * k) * (1.0", "((2.0 * w)) * (1.0", "ops/test_losses ops/test_losses_autograd"),
    ],
    "pyebm/losses/_denoising.py": [
        ("ids is None and z is None", "False", "pytorch/test_derivatives matrix/test_matrix"),
        (
            "grad_output.dim() == 0 and checkable(grad_output) and grad_output.item() == 1.0",
            "grad_output.dim() == 0",
            "ops/test_small_losses ops/test_losses_autograd",
        ),
    ],
    "pyebm/_name.py": [
        (
            "for first in range(0, n_steps, _BLOCK)",
            "for first in range(0, min(n_steps, _BLOCK), _BLOCK)",
            "noise/test_noise::test_a_walk_names_every_step",
        ),
        ("self._first_sample + batch > WORD", "self._first_sample > WORD", "noise/test_noise"),
    ],
    "pyebm/noise.py": [
        ("self._step if step is None else", "0 if step is None else", "noise/test_noise"),
        ('self._drawn("rand", "uniform_"', 'self._drawn("rand", "normal_"', "noise/test_uniforms"),
        (
            '("first_sample", first_sample), self._step, self._stream, None, None)',
            '("first_sample", first_sample), self._step, 0, None, None)',
            "noise/test_noise",
        ),
    ],
    "pyebm/chain.py": [
        (
            "torch.where((diverged < 0) & (found >= 0), found + done, diverged, out=diverged)",
            "torch.where((diverged < 0) & (found >= 0), found, diverged, out=diverged)",
            "samplers/test_samplers_interrupt",
        ),
        ("name[2:3] + count", "name[2:3]", "samplers/test_samplers_interrupt"),
    ],
    "pyebm/diagnostics.py": [
        ("total += k0.sum() * (1 if i == j else 2)", "total += k0.sum()", "samplers/test_diagnostics"),
        ("names[key]: by_chain(values)", "key: by_chain(values)", "samplers/test_diagnostics"),
    ],
    "pyebm/losses/_contrast.py": [
        (
            "work * torch.cat((of_data, -of_model))",
            "work * torch.cat((of_data, of_model))",
            "training/test_contrastive training/test_fused_losses",
        ),
        ("of_data.sum(), -of_model.sum()", "of_data.sum(), of_model.sum()", "training/test_fused_losses"),
    ],
    "pyebm/losses/_projections.py": [
        ("(math.sqrt(elements) / norm)", "(1.0 / norm)", "training/test_score_matching"),
        ("beside(noise, PROJECTIONS)", "noise", "training/test_score_matching"),
    ],
    "pyebm/losses/_reduction.py": [
        (
            "key = (op, x.shape[:1] if by_sample else x.shape,",
            "key = (op, x.shape[:1],",
            "training/test_score_matching",
        ),
        ("if wanted(None, reduced.rows)", "if False", "training/test_losses_by_sample"),
    ],
    "pyebm/losses/_terms.py": [
        ("v[:, i] = 1.0", "v[:, -1] = 1.0", "training/test_score_matching"),
        ("torch.stack(products).mean(0)", "torch.stack(products).sum(0)", "training/test_score_matching"),
    ],
    "pyebm/losses/contrastive.py": [
        (
            "beside(named, CHAINS).at(step=noise.step * self.n_steps)",
            "named.at(step=noise.step)",
            "training/test_contrastive",
        ),
        ("uphill = -energy_score", "uphill = energy_score", "training/test_contrastive"),
    ],
    "pyebm/losses/denoising_score_matching.py": [
        ("sigma**4 if", "sigma**3 if", "training/test_score_matching"),
        (
            "by = 1.0 if isinstance(times, str) else times / _squared(sigma)",
            "by = 1.0 if isinstance(times, str) else times",
            "training/test_fused_losses",
        ),
    ],
    "pyebm/losses/replay.py": [
        ("while math.gcd(a, self.size) != 1", "while False", "training/test_replay_buffer"),
        ("torch.where(finite, moved, 0)", "moved", "training/test_replay_buffer"),
        ("noise._of(ids.clone())", "noise._of(ids)", "training/test_replay_buffer"),
        (
            "chains = noise._of(ids.clone())",
            "chains = noise._of(samples.clone())",
            "training/test_replay_buffer",
        ),
    ],
    "pyebm/reference/noise.py": [
        (
            "samples = torch.arange(batch, device=name.device) + first_sample if",
            "samples = torch.arange(batch, device=name.device) if",
            "noise/test_noise",
        ),
        (
            "odd = torch.where(quadrant >= 2, -odd, odd)",
            "odd = torch.where(quadrant == 2, -odd, odd)",
            "noise/test_normals",
        ),
    ],
    "pyebm/samplers/_loop.py": [
        (
            "kept.select(0, done // thin - 1).copy_(run.x)",
            "kept.select(0, done // thin - 1).copy_(kept[0])",
            "samplers/test_samplers",
        ),
        (
            "run.first + done == run.length",
            "done == run.length",
            "samplers/test_samplers_resume samplers/test_samplers",
        ),
    ],
    "pyebm/samplers/_mass.py": [
        (
            "self.square.add_(away * (x - self.mean))",
            "self.square.add_(away * away)",
            "samplers/test_samplers_mass",
        ),
        ("if n == 1:", "if n == 0:", "samplers/test_samplers_mass"),
    ],
    "pyebm/samplers/_adaptation.py": [
        (
            "self.middle.copy_((10.0 * self.step_size).log())",
            "self.middle.copy_(self.step_size.log())",
            "samplers/test_warmup_bits samplers/test_samplers_mass",
        ),
    ],
    "pyebm/samplers/_stuck.py": [
        (
            "rows + run.noise.first_sample if run.ids is None",
            "rows if run.ids is None",
            "samplers/test_samplers_stuck",
        ),
    ],
    "pyebm/samplers/_state.py": [
        ("type(saved) is not int or saved != found", "type(saved) is not int", "samplers/test_states"),
    ],
    "pyebm/samplers/annealed.py": [
        (
            "(self.sigma_at(k) / self.sigmas[-1]) ** 2",
            "(self.sigma_at(k) / self.sigmas[0]) ** 2",
            "samplers/test_samplers",
        ),
    ],
    "pyebm/samplers/sde.py": [
        (
            "math.sqrt(below * below * step) / sigma",
            "math.sqrt(below * step) / sigma",
            "samplers/test_predictor_corrector",
        ),
        ("-2 * self._integral(t)", "-self._integral(t)", "samplers/test_predictor_corrector"),
    ],
    "pyebm/targets/_fused.py": [
        ("return by * (self.weight", "return 1.0 * (self.weight", "training/test_losses_by_sample"),
        ("or x.is_inference():", ":", "training/test_compiled_loss"),
    ],
    "pyebm/samplers/underdamped.py": [
        ("0.5 * (h + following)", "h", "samplers/test_samplers samplers/test_samplers_schedules"),
        (
            "-2.0 * self.friction * h",
            "-self.friction * h",
            "samplers/test_samplers_laws",
        ),
    ],
    "pyebm/targets/_guard.py": [
        ("bool(self._check(*tensors))", "True", "targets/test_guard"),
        ("not tensor.is_contiguous() or", "", "targets/test_guard"),
        ("if _absent(tensors) != self._absent:", "if False:", "targets/test_guard"),
    ],
    "pyebm/targets/_wiring.py": [
        ("(part.storage_offset() + _reach(part))", "part.storage_offset()", "training/test_compiled_loss"),
        ("return needs + BIASES + PARAMS", "return needs + BIASES", "training/test_fused_losses"),
        ("same and dense and x.dim() > 0 and", "", "targets/test_learned_refusals targets/test_learned"),
        (
            "(x.dtype is torch.float64) is wide",
            "True",
            "targets/test_learned targets/test_learned_follows training/test_learned_gradients",
        ),
    ],
    "pyebm/targets/_learned.py": [
        ("given if given.whole and", "given if", "training/test_compiled_loss"),
        ("is not None and reverse_alone(x, *given.parts)", "is not None", "targets/test_learned_in_pytorch"),
        ("same = reading.module is net and", "same =", "training/test_fused_terms"),
        (
            "reading is None or not reading.still(net)",
            "reading is None",
            "targets/test_learned_follows targets/test_learned",
        ),
    ],
    "pyebm/targets/_normaliser.py": [
        ("if within or value - lowest", "if value - lowest", "targets/test_normalisers"),
    ],
    "pyebm/distributed/_folder.py": [
        ("if not whole or sums", "if sums", "pytorch/test_distributed_refusals"),
        ("if not ours or state.noise", "if state.noise", "pytorch/test_distributed_refusals"),
    ],
    "pyebm/distributed/_ids.py": [
        (
            "if after.start < before.stop:",
            "if after.start < before.start:",
            "pytorch/test_distributed_refusals pytorch/test_distributed_sample",
        ),
        (
            "return self.parts[part][at - self.ends[part]]",
            "return self.parts[part][at]",
            "pytorch/test_distributed_sample",
        ),
    ],
    "pyebm/distributed/_archive.py": [
        ("image.double() * 127.5 + 128", "image.double() * 127.5 + 127.5", "pytorch/test_distributed_sample"),
    ],
    "pyebm/integrations/_edm_losses.py": [
        ("sigma.double() ** -2", "sigma.double() ** -1", "integrations/test_edm_losses"),
        (
            "(s**2 + data**2) / (s * data) ** 2",
            "(s**2 + data**2) / (s * data)",
            "integrations/test_edm_losses",
        ),
    ],
    "pyebm/integrations/_draws.py": [
        (
            "g.dtype is not x.dtype and g.dtype in FLOATS",
            "False",
            "integrations/test_draws integrations/test_taken_as_theirs",
        ),
    ],
    "pyebm/integrations/k_diffusion.py": [
        (
            "weight = self._weights(sigma) / max(input[0].numel(), 1)",
            "weight = self._weights(sigma)",
            "integrations/test_k_diffusion",
        ),
    ],
    "pyebm/integrations/brownian.py": [
        ("node + (t < 0) * 2 ** (_DEPTH + 1)", "node", "integrations/test_brownian"),
        ("deviation * share", "deviation", "integrations/test_brownian"),
    ],
}
