// The loop of a chain, which takes a block of samples through all steps while the block stays in
// the cache; and the steps of Langevin's chain, each of which gives the bits of the score and
// langevin_step.
#pragma once

#include <limits>
#include <memory>

#include "../../common/known.h"
#include "targets.h"

namespace pyebm {

// A step size or a temperature: a number, one per sample, or one per step.
class ChainCoefficient {
 public:
  ChainCoefficient(double number, const std::optional<Tensor>& rows, const std::optional<bool>& per_step)
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

struct ChainCoefficients {
  ChainCoefficient eta, t;

  void require(const char* op) const {
    eta.require(op, "step_size", true);
    t.require(op, "temperature", false);
  }
  bool per_sample() const { return eta.per_sample() || t.per_sample(); }
  bool per_step() const { return eta.per_step() || t.per_step(); }
  // Whether step k draws normals: not at a temperature of 0. The first step of a schedule always
  // does, since the later ones draw from what it has laid out.
  bool draws(int64_t k) const { return t.per_sample() || t.at(k, 0) != 0 || (t.per_step() && k == 0); }

  // Computes b and c of the step x' = (x + b s) + c z.
  template <class T>
  void at(int64_t step, int64_t sample, T& b, T& c) const {
    const double h = eta.at(step, sample);
    b = static_cast<T>(h);
    c = static_cast<T>(std::sqrt(2.0 * h * t.at(step, sample)));
  }
};

// Records a chain on its way: the states after every `thin` steps, and for each sample the first
// step that left it not finite.
class Kept {
 public:
  Kept(const Tensor& x, const MaybeTensor& states, std::optional<int64_t> thin,
       const MaybeTensor* diverged = nullptr)
      : states_(states), every_(states ? thin.value_or(0) : 0), elements_(x.numel()) {
    if (!diverged || !*diverged || !x.size(0)) return;
    bad_ = static_cast<int64_t*>((*diverged)->data_ptr());
    std::fill(bad_, bad_ + x.size(0), int64_t{-1});
  }

  template <class T>
  void after(int64_t step, const Block& block, const T* x) const {
    if (every_ && (step + 1) % every_ == 0) {
      write_numbers(states_, ((step + 1) / every_ - 1) * elements_ + block.first, block.count, x);
    }
    const auto& kernels = kernels_of<T>();
    constexpr T kLowest = std::numeric_limits<T>::lowest();
    if (!bad_ || kernels.all_within(block.count, x, kLowest)) return;
    for (int64_t row = 0; row < block.rows; ++row) {
      int64_t& first = bad_[block.sample + row];
      if (first < 0 && !kernels.all_within(block.width, x + row * block.width, kLowest)) first = step;
    }
  }

 private:
  View states_;
  int64_t every_, elements_;
  int64_t* bad_ = nullptr;
};

// Calls make() once a thread to get that thread's steps, and takes each block through all steps
// before the next block begins.
template <class Make>
void run_chain(const Blocks& blocks, int64_t n_steps, const Kept& kept, Make make) {
  for_each_block(blocks, [&] {
    return [&, steps = make()](const Block& block) {
      steps->begin(block);
      for (int64_t k = 0; k < n_steps; ++k) {
        steps->step(block, k);
        kept.after(k, block, steps->x());
      }
      steps->end(block);
    };
  });
}

struct Known {
  View data;
  const double* marginals = nullptr;

  Known() = default;
  Known(const char* op, const MaybeTensor& known, const MaybeTensor& table, const MaybeTensor& mask,
        int64_t n_steps)
      : data(known) {
    check_known(op, known, table, mask, n_steps);
    if (known && table->numel()) marginals = static_cast<const double*>(table->data_ptr());
  }
};

// The state that the caller gave to a chain: the tensor, its mask, its noise and its known
// elements.
struct Given {
  View x, mask;
  NoiseSource noise;
  Known known = {};
};

// The base of all samplers' steps. `work` holds one thread's state and score of a block; this class
// draws the block's noise and reads its mask.
template <class T, class Work>
class StepsOfBlock {
 public:
  template <class Make>
  StepsOfBlock(const Shape& shape, Make make, const Given& given)
      : shape_(shape), given_(given), work_(make()) {}

  T* x() const { return work_.x(); }
  void begin(const Block& block) { work_.read(given_.x, block); }
  void end(const Block& block) { work_.write(given_.x, block.first, block, x()); }

 protected:
  // Calls body(chunk, at) for the block's chunks, which begin `at` elements into it.
  template <class Body>
  void for_each_chunk(const Block& block, Body body) const {
    for (int64_t index = block.begin; index < block.end; ++index) {
      const Chunk chunk(shape_, index);
      body(chunk, chunk.first - block.first);
    }
  }

  // Whether the buffers still hold the layout of the block's first step. They do where the block is
  // one chunk, since no other chunk has overwritten them.
  static bool as_before(const Block& block, int64_t k) { return k > 0 && block.end - block.begin == 1; }

  const float* draw(const NoiseSource& noise, const Chunk& chunk, const Block& block, int64_t k,
                    NoiseBuffer& buffer,
                    decltype(ChunkKernels::normals) kernel = chunk_kernels().normals) const {
    if (!as_before(block, k)) noise.lay_out(chunk, buffer.calls);
    return noise.drawn(chunk, k, buffer, kernel);
  }
  const float* draw(const Chunk& chunk, const Block& block, int64_t k) {
    return draw(given_.noise, chunk, block, k, buffer_);
  }

  const uint8_t* mask(const Chunk& chunk) {
    return given_.mask ? given_.mask.read(chunk.first, chunk.count, mask_work_.data) : nullptr;
  }

  // Sets the known elements for a score in step k, with noise of this stream.
  void impose(const Block& block, int64_t k, int64_t stream) {
    const Known& known = given_.known;
    if (!known.data) return;
    const NoiseSource noise = given_.noise.on_stream(stream);
    const T alpha = static_cast<T>(known.marginals[2 * k]),
            sigma = static_cast<T>(known.marginals[2 * k + 1]);
    for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      const uint8_t* mask = this->mask(chunk);
      const T* data = known.data.template read<T>(chunk.first, chunk.count, known_work_.data);
      noise.lay_out(chunk, known_buffer_.calls);
      const float* z = noise.drawn(chunk, k, known_buffer_);
      kernels_of<T>().perturb(chunk.count, data, z, alpha, sigma, known_work_.data);
      given_.x.round(chunk.count, known_work_.data);
      for (int64_t i = 0; i < chunk.count; ++i) x()[at + i] = mask[i] ? x()[at + i] : known_work_.data[i];
    });
  }

  const Shape& shape_;
  const Given& given_;
  Work work_;

 private:
  NoiseBuffer buffer_, known_buffer_;
  Buffer<uint8_t> mask_work_;
  Buffer<T> known_work_;
};

template <class T, class Work>
class LangevinSteps : public StepsOfBlock<T, Work> {
  using Base = StepsOfBlock<T, Work>;
  using Base::given_, Base::work_;

 public:
  using Base::x;

  template <class Make>
  LangevinSteps(const Shape& shape, Make make, const Given& given, const ChainCoefficients& coefficients,
                const Bounds<T>& bounds)
      : Base(shape, make, given), coefficients_(coefficients), bounds_(bounds) {}

  void step(const Block& block, int64_t k) {
    this->impose(block, k, 1);
    work_.make_score(given_.x, block, k);
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      const float* z = coefficients_.draws(k) ? this->draw(chunk, block, k) : kNoNormals;
      const bool each = chunk.rows > 1 && coefficients_.per_sample();
      if (each && (!Base::as_before(block, k) || coefficients_.per_step())) lay_out(k, chunk);
      take(k, chunk, each, x() + at, work_.score() + at, z);
    });
    given_.x.round(block.count, x());
  }

 private:
  // Fills b_ and c_ with the coefficients of each sample, one number per element of the chunk.
  void lay_out(int64_t k, const Chunk& chunk) {
    for (int64_t row = 0, at = 0; row < chunk.rows; ++row, at += chunk.width) {
      T b_row, c_row;
      coefficients_.at(k, chunk.sample + row, b_row, c_row);
      std::fill(b_.data + at, b_.data + at + chunk.width, b_row);
      std::fill(c_.data + at, c_.data + at + chunk.width, c_row);
    }
  }

  void take(int64_t k, const Chunk& chunk, bool each, T* x, const T* score, const float* z) {
    const auto& kernels = kernels_of<T>();
    const uint8_t* mask = this->mask(chunk);
    if (each)
      return kernels.step_each(chunk.count, x, score, z, mask, nullptr, b_.data, c_.data, bounds_, x,
                               nullptr);
    T b, c;
    coefficients_.at(k, chunk.sample, b, c);
    kernels.step(chunk.count, x, score, z, mask, T(1), b, c, bounds_, x, nullptr);
  }

  const ChainCoefficients& coefficients_;
  const Bounds<T> bounds_;
  Buffer<T> b_, c_;
};

// Langevin's chain, which the ops langevin_chain and network_chain run.
class Chain {
 public:
  Chain(const char* op, const Tensor& x, const args::ChainSteps& steps, const Known& known = {})
      : x_(x),
        steps_(steps),
        coefficients_{{steps.step_size, steps.step_size_rows, steps.step_size_per_step},
                      {steps.temperature, steps.temperature_rows, steps.temperature_per_step}},
        given_{View(x), View(steps.mask), NoiseSource(steps.name, steps.seeds, steps.ids, Shape(x)), known} {
    coefficients_.require(op);
    given_.noise.require_steps(steps.n_steps);
    if (known.data) given_.noise.on_stream(1);
  }

  // make() makes one thread's buffers for the state and the score of a block.
  template <class T, class Make>
  void run(const Blocks& blocks, Make make) const {
    const Bounds<T> bounds = bounds_of<T>(steps_.low, steps_.high, steps_.score_clip);
    run_chain(blocks, steps_.n_steps, Kept(x_, steps_.states, steps_.thin, &steps_.diverged), [&] {
      return std::make_unique<LangevinSteps<T, decltype(make())>>(blocks.shape, make, given_, coefficients_,
                                                                  bounds);
    });
  }

 private:
  const Tensor& x_;
  const args::ChainSteps& steps_;
  ChainCoefficients coefficients_;
  Given given_;
};

}  // namespace pyebm
