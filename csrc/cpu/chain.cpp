// langevin_chain: many Langevin steps on a closed-form target, each the bits of target_score and langevin_step. A block of samples
// stays in the cache through all of them.
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
  bool per_step() const { return values_.per_sample() && per_step_; }
  double at(int64_t step, int64_t sample) const { return values_[per_step_ ? step : sample]; }
  void require(const char* name, bool positive) const {
    values_.require("langevin_chain", name, positive, per_step_ ? "step" : "sample");
  }

 private:
  Coefficient values_;
  bool per_step_;
};

struct Rows {
  Row eta, t;
  bool per_sample() const { return eta.per_sample() || t.per_sample(); }
  bool per_step() const { return eta.per_step() || t.per_step(); }

  // b and c of x' = (x + b s) + c z.
  template <class T>
  void at(int64_t step, int64_t sample, T& b, T& c) const {
    const double h = eta.at(step, sample);
    b = static_cast<T>(h);
    c = static_cast<T>(std::sqrt(2.0 * h * t.at(step, sample)));
  }
};

// One step of a chunk, in place. Samples that differ in their coefficients have them laid out in `b` and `c`.
template <class T>
struct Stepper {
  const Rows& rows;
  const Bounds<T>& bounds;
  Buffer<T> b, c;

  Stepper(const Rows& r, const Bounds<T>& limits) : rows(r), bounds(limits) {}

  void lay_out(int64_t step, const Chunk& chunk) {
    if (chunk.rows == 1 || !rows.per_sample()) return;
    for (int64_t row = 0, at = 0; row < chunk.rows; ++row, at += chunk.width) {
      T b_row, c_row;
      rows.at(step, chunk.sample + row, b_row, c_row);
      std::fill(b.data + at, b.data + at + chunk.width, b_row);
      std::fill(c.data + at, c.data + at + chunk.width, c_row);
    }
  }

  void operator()(int64_t step, const Chunk& chunk, T* x, const T* score, const float* z) const {
    const auto& kernels = kernels_of<T>();
    if (chunk.rows > 1 && rows.per_sample()) {
      return kernels.step_each(chunk.count, x, score, z, nullptr, nullptr, b.data, c.data, bounds, x, nullptr);
    }
    T b_all, c_all;
    rows.at(step, chunk.sample, b_all, c_all);
    kernels.step(chunk.count, x, score, z, nullptr, T(1), b_all, c_all, bounds, x, nullptr);
  }
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

void langevin_chain(const args::LangevinChain& args) {
  const args::ChainSteps& steps = args.steps;
  const Tensor &x = args.x, &params = args.params;
  const Rows rows{{steps.step_size, steps.step_size_rows, steps.step_size_per_step},
                  {steps.temperature, steps.temperature_rows, steps.temperature_per_step}};
  rows.eta.require("step_size", true);
  rows.t.require("temperature", false);
  const int64_t n_steps = steps.n_steps, elements = x.numel();
  const NoiseSource noise(steps.name, steps.seeds, steps.ids, Shape(x));
  noise.require_steps(n_steps);
  const View view(x), kept(steps.states);
  const int64_t every = steps.thin.value_or(n_steps + 1);
  int64_t* first_bad = steps.diverged && x.size(0) ? static_cast<int64_t*>(steps.diverged->data_ptr()) : nullptr;
  constexpr double kNone = std::numeric_limits<double>::infinity();

  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const TargetOf<T>& kernels = checked_target<T>("langevin_chain", args.target, params, Shape(x));
    const int64_t at_once = samples_at_once(kernels, x.size(0));
    Shape shape(x, at_once);
    if (!at_once) shape.share(torch::stable::get_num_threads(), n_steps);
    const Bounds<T> bounds{static_cast<T>(steps.low.value_or(-kNone)), static_cast<T>(steps.high.value_or(kNone)),
                           static_cast<T>(kNone)};
    const Blocks blocks(shape, !kernels.elementwise || first_bad, at_once, work_of(kernels, shape, params), n_steps);
    if (first_bad) std::fill(first_bad, first_bad + shape.samples, int64_t{-1});
    for_each_block(blocks, [&] {
      return [&, work = BlockBuffers<T>(blocks, kernels, params), buffer = NoiseBuffer(),
              step = Stepper<T>(rows, bounds)](const Block& block) mutable {
        work.read(view, block);
        const bool one_chunk = block.end - block.begin == 1;
        for (int64_t k = 0; k < n_steps; ++k) {
          work.make_score(view, block);
          for (int64_t index = block.begin; index < block.end; ++index) {
            const Chunk chunk(shape, index);
            const int64_t at = chunk.first - block.first;
            const bool as_before = k > 0 && one_chunk;
            if (!as_before) noise.lay_out(chunk, buffer.calls);
            if (!as_before || rows.per_step()) step.lay_out(k, chunk);
            step(k, chunk, work.x() + at, work.score() + at, noise.drawn(chunk, k, buffer));
          }
          view.round(block.count, work.x());
          if ((k + 1) % every == 0) work.write(kept, ((k + 1) / every - 1) * elements + block.first, block, work.x());
          if (first_bad) report(k, block, work.x(), first_bad);
        }
        work.write(view, block.first, block, work.x());
      };
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, langevin_chain); }
