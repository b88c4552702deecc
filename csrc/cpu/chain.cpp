// langevin_chain: many Langevin steps on a closed-form target, each the bits of target_score and langevin_step. A block of samples
// stays in the cache through all of them.
#include <torch/csrc/stable/library.h>

#include <limits>

#include "targets.h"

namespace pyebm {
namespace {

// A step size or a temperature: a number, one per sample, or one per step.
class Row {
 public:
  Row(double number, const std::optional<Tensor>& rows, const std::optional<bool>& per_step)
      : values_(number, rows), per_step_(per_step.value_or(false)) {}

  bool per_sample() const { return values_.per_sample() && !per_step_; }
  double at(int64_t step, int64_t sample) const { return values_[per_step_ ? step : sample]; }
  void require(const char* name, bool positive) const {
    values_.require("langevin_chain", name, positive, per_step_ ? "step" : "sample");
  }

 private:
  Coefficient values_;
  bool per_step_;
};

// Where a state is no longer finite: the first such step of each sample.
template <class T>
void report(int64_t step, const Block& block, const T* x, int64_t* diverged) {
  const auto& kernels = kernels_of<T>();
  if (kernels.all_finite(block.count, x)) return;
  for (int64_t row = 0; row < block.rows; ++row) {
    int64_t& first = diverged[block.sample + row];
    if (first < 0 && !kernels.all_finite(block.width, x + row * block.width)) first = step;
  }
}

void langevin_chain(Tensor x, int64_t target, Tensor params, int64_t n_steps, double step_size, double temperature, Tensor name,
                    std::optional<Tensor> step_size_rows, std::optional<Tensor> temperature_rows,
                    std::optional<bool> step_size_per_step, std::optional<bool> temperature_per_step, std::optional<Tensor> states,
                    std::optional<int64_t> thin, std::optional<Tensor> diverged, std::optional<double> low,
                    std::optional<double> high, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  const Row eta(step_size, step_size_rows, step_size_per_step), t(temperature, temperature_rows, temperature_per_step);
  eta.require("step_size", true);
  t.require("temperature", false);
  const bool per_sample = eta.per_sample() || t.per_sample();
  const NoiseSource noise(name, seeds, ids, Shape(x));
  noise.require_steps(n_steps);
  const View view(x), kept(states);
  const int64_t every = thin.value_or(n_steps + 1);
  int64_t* first_bad = diverged && x.size(0) ? static_cast<int64_t*>(diverged->data_ptr()) : nullptr;
  constexpr double kNone = std::numeric_limits<double>::infinity();

  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const TargetOf<T>& kernels = checked_target<T>("langevin_chain", target, params, Shape(x));
    const int64_t at_once = samples_at_once(kernels, x.size(0));
    const Shape shape(x, at_once);
    const Bounds<T> bounds{static_cast<T>(low.value_or(-kNone)), static_cast<T>(high.value_or(kNone)), static_cast<T>(kNone)};
    const Blocks blocks(shape, !kernels.elementwise || first_bad, at_once, n_steps * work_of(kernels, shape, params));
    if (first_bad) std::fill(first_bad, first_bad + shape.samples, int64_t{-1});
    for_each_block(blocks, [&] {
      return [&, work = BlockBuffers<T>(blocks, kernels, params), buffer = NoiseBuffer()](const Block& block) mutable {
        work.read(view, block);
        const bool one_chunk = block.end - block.begin == 1;
        if (one_chunk) noise.lay_out(Chunk(shape, block.begin), buffer.calls);
        for (int64_t k = 0; k < n_steps; ++k) {
          work.make_score(view, block);
          for (int64_t index = block.begin; index < block.end; ++index) {
            const Chunk chunk(shape, index);
            if (!one_chunk) noise.lay_out(chunk, buffer.calls);
            const float* z = noise.drawn(shape, chunk, k, buffer);
            T* state = work.x() + (chunk.first - block.first);
            const T* score = work.score() + (chunk.first - block.first);
            for_each_run(chunk, per_sample, [&](int64_t sample, int64_t at, int64_t n) {
              const double h = eta.at(k, sample), c = std::sqrt(2.0 * h * t.at(k, sample));
              kernels_of<T>().step(n, state + at, score + at, z + at, nullptr, T(1), static_cast<T>(h), static_cast<T>(c), bounds,
                                   state + at, nullptr);
            });
          }
          view.round(block.count, work.x());
          if ((k + 1) % every == 0) {
            work.write(kept, ((k + 1) / every - 1) * shape.samples * shape.elements + block.first, block, work.x());
          }
          if (first_bad) report(k, block, work.x(), first_bad);
        }
        work.write(view, block.first, block, work.x());
      };
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { m.impl("langevin_chain", TORCH_BOX(&pyebm::langevin_chain)); }
