// The loop of a chain: many Langevin steps, each the bits of the score and langevin_step. A block of samples stays in the cache
// through all of them.
#pragma once

#include <limits>

#include "targets.h"

namespace pyebm {

// A step size or a temperature: a number, one per sample, or one per step.
class Row {
 public:
  Row(double number, const std::optional<Tensor>& rows, const std::optional<bool>& per_step)
      : values_(number, rows), per_step_(per_step.value_or(false)) {}

  bool per_sample() const { return values_.per_sample() && !per_step_; }
  bool per_step() const { return values_.per_sample() && per_step_; }
  double at(int64_t step, int64_t sample) const { return values_[per_step_ ? step : sample]; }
  void require(const char* op, const char* name, bool positive) const {
    values_.require(op, name, positive, per_step_ ? "step" : "sample");
  }

 private:
  Coefficient values_;
  bool per_step_;
};

struct Rows {
  Row eta, t;

  void require(const char* op) const {
    eta.require(op, "step_size", true);
    t.require(op, "temperature", false);
  }
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

class Chain {
 public:
  Chain(const char* op, const Tensor& x, const args::ChainSteps& steps, std::optional<double> score_clip = std::nullopt)
      : op_(op),
        x_(x),
        steps_(steps),
        score_clip_(score_clip),
        rows_{{steps.step_size, steps.step_size_rows, steps.step_size_per_step},
              {steps.temperature, steps.temperature_rows, steps.temperature_per_step}},
        noise_(steps.name, steps.seeds, steps.ids, Shape(x)) {
    rows_.require(op_);
    noise_.require_steps(steps.n_steps);
  }

  int64_t* first_bad() const {
    return steps_.diverged && x_.size(0) ? static_cast<int64_t*>(steps_.diverged->data_ptr()) : nullptr;
  }

  // make() makes one thread's state and score of a block: what BlockBuffers does.
  template <class T, class Make>
  void run(const Blocks& blocks, Make make) const {
    const Shape& shape = blocks.shape;
    const View view(x_), kept(steps_.states);
    const int64_t n_steps = steps_.n_steps, every = steps_.thin.value_or(n_steps + 1), elements = x_.numel();
    constexpr double kNone = std::numeric_limits<double>::infinity();
    const Bounds<T> bounds{static_cast<T>(steps_.low.value_or(-kNone)), static_cast<T>(steps_.high.value_or(kNone)),
                           static_cast<T>(score_clip_.value_or(kNone))};
    int64_t* bad = first_bad();
    if (bad) std::fill(bad, bad + shape.samples, int64_t{-1});
    for_each_block(blocks, [&] {
      return [&, work = make(), buffer = NoiseBuffer(), step = Stepper<T>(rows_, bounds)](const Block& block) mutable {
        work.read(view, block);
        const bool one_chunk = block.end - block.begin == 1;
        for (int64_t k = 0; k < n_steps; ++k) {
          work.make_score(view, block, k);
          for (int64_t index = block.begin; index < block.end; ++index) {
            const Chunk chunk(shape, index);
            const int64_t at = chunk.first - block.first;
            const bool as_before = k > 0 && one_chunk;
            if (!as_before) noise_.lay_out(chunk, buffer.calls);
            if (!as_before || rows_.per_step()) step.lay_out(k, chunk);
            step(k, chunk, work.x() + at, work.score() + at, noise_.drawn(chunk, k, buffer));
          }
          view.round(block.count, work.x());
          if ((k + 1) % every == 0) work.write(kept, ((k + 1) / every - 1) * elements + block.first, block, work.x());
          if (bad) report(k, block, work.x(), bad);
        }
        work.write(view, block.first, block, work.x());
      };
    });
  }

 private:
  const char* op_;
  const Tensor& x_;
  const args::ChainSteps& steps_;
  std::optional<double> score_clip_;
  Rows rows_;
  NoiseSource noise_;
};

}  // namespace pyebm
