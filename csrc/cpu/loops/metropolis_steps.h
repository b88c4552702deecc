// The steps of MALA and HMC in the op metropolis_chain. A block of samples stays in the cache through
// all steps.
#pragma once

#include <tuple>
#include <utility>
#include <vector>

#include "metropolis_test.h"

namespace pyebm {

// The chain's score and root, which is 1 / sqrt(mass). With a root, momenta and scores are those of
// x / root, in which every mass is 1.
struct Slopes {
  View score, root;
};

// `work` holds the proposal and its score; x_ and score_ hold the state and its score.
template <class T, class Work>
class MetropolisSteps : public StepsOfBlock<T, Work> {
  using Base = StepsOfBlock<T, Work>;
  using Base::as_before, Base::shape_, Base::given_, Base::work_;

 public:
  template <class Make>
  MetropolisSteps(const Blocks& blocks, Make make, const Given& given, const Steps& steps,
                  const Averaging& averaging, int64_t n_leapfrog, double constant, const Slopes& slopes,
                  const ChainTensors& tensors)
      : Base(blocks.shape, make, given),
        steps_(steps),
        averaging_(averaging),
        n_leapfrog_(n_leapfrog),
        decisions_(tensors, averaging, constant, blocks[0].rows),
        tests_(given.noise.on_stream(1)),
        jitters_(steps.jitter > 0 ? given.noise.on_stream(2) : given.noise),
        slopes_(slopes),
        x_(blocks[0].count),
        score_(blocks[0].count),
        fresh_(steps.is_mala && !slopes.root ? 0 : blocks[0].count),
        moving_(steps.is_mala && !slopes.root ? 0 : blocks[0].count),
        root_(slopes.root ? blocks[0].count : 0),
        room_(blocks[0].count + blocks[0].rows),
        sizes_(blocks[0].rows),
        plus_(blocks[0].rows),
        minus_(blocks[0].rows) {}

  T* x() const { return x_.data(); }
  void begin(const Block& block) {
    work_.read(given_.x, block);
    std::copy(work_.x(), work_.x() + block.count, x());
    read_numbers(slopes_.score, block.first, block.count, score_.data());
    if (slopes_.root) read_numbers(slopes_.root, block.first, block.count, root_.data());
  }
  void step(const Block& block, int64_t k) {
    find_sizes(block, k);
    if (steps_.is_mala)
      this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) { propose(chunk, at, block, k); });
    else
      travel(block, k);
    work_.make_both(given_.x, block, room_.data(), decisions_.proposed());
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      still(chunk, at);
      if (slopes_.root) by_root(chunk, at, work_.score(), work_.score());
    });
    test(block, k);
  }
  void end(const Block& block) {
    work_.write(given_.x, block.first, block, x());
    work_.write(slopes_.score, block.first, block, score_.data());
  }

 private:
  // Draws a uniform for each sample of the chunk.
  const float* draw_uniforms(const NoiseSource& noise, const Chunk& chunk, const Block& block, int64_t k,
                             NoiseBuffer& buffer) const {
    return this->draw(noise, chunk.of_one_element(), block, k, buffer, chunk_kernels().uniforms);
  }

  // The step size, before jitter.
  double size(int64_t k, int64_t sample) const {
    return averaging_ ? averaging_.rows.sizes[sample] : steps_.size.at(k, sample);
  }

  // Fills sizes_ for the block, and the numbers that follow from them: once, or in every step where
  // they change.
  void find_sizes(const Block& block, int64_t k) {
    const bool drawn = steps_.jitter > 0;
    if (k > 0 && !drawn && !averaging_ && !steps_.size.per_step() && !steps_.temperature.per_step()) return;
    temperature_ = steps_.temperature.at(k, 0);
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t) {
      if (chunk.element) return;
      const float* uniforms = drawn ? draw_uniforms(jitters_, chunk, block, k, jitter_buffer_) : nullptr;
      for (int64_t sample = chunk.sample; sample < chunk.sample + chunk.rows; ++sample) {
        const int64_t row = sample - block.sample;
        sizes_[row] = steps_.jittered(size(k, sample), uniforms, sample - chunk.sample);
        plus_[row] = static_cast<T>(steps_.tested(sizes_[row]));
        minus_[row] = -plus_[row];
        decisions_.divisors()[row] = steps_.divisor(sizes_[row], temperature_);
      }
    });
  }

  // Computes out = (a x + b score) + c z, where make(size) gives b and c for each sample's step
  // size. Outside of the mask it is x.
  template <class Make>
  void affine(const Chunk& chunk, const Block& block, int64_t k, const T* x, T a, Make make, T* out) {
    const float* z = this->draw(chunk, block, k);
    const uint8_t* mask = this->mask(chunk);
    const int64_t at = chunk.first - block.first;
    const int64_t row = at / shape_.elements;
    if (!steps_.per_sample()) {
      const auto [b, c] = make(sizes_[row]);
      kernels_of<T>().step(chunk.count, x + at, score_.data() + at, z, mask, a, b, c, kNoBounds<T>, out + at,
                           nullptr);
    } else {
      T b_each[kCalls], c_each[kCalls];
      for (int64_t i = 0; i < chunk.rows; ++i) std::tie(b_each[i], c_each[i]) = make(sizes_[row + i]);
      std::fill(a_.data, a_.data + chunk.count, a);
      kernels_of<T>().repeat(chunk.count, chunk.width, 0, b_each, b_.data);
      kernels_of<T>().repeat(chunk.count, chunk.width, 0, c_each, c_.data);
      kernels_of<T>().step_each(chunk.count, x + at, score_.data() + at, z, mask, a_.data, b_.data, c_.data,
                                kNoBounds<T>, out + at, nullptr);
    }
    given_.x.round(chunk.count, out + at);
  }

  // MALA proposes by Langevin's step; with a root, by a step from 0 in the coordinates x / root.
  void propose(const Chunk& chunk, int64_t at, const Block& block, int64_t k) {
    const auto make = [&](double size) {
      return std::pair(static_cast<T>(size), static_cast<T>(std::sqrt(2.0 * size * temperature_)));
    };
    if (!slopes_.root) return affine(chunk, block, k, x(), T(1), make, work_.x());
    T *move = moving_.data(), *y = work_.x();
    std::fill(move + at, move + at + chunk.count, T(0));
    affine(chunk, block, k, move, T(1), make, move);
    kernels_of<T>().moved(chunk.count, 1, x() + at, move + at, root_.data() + at, y + at);
    for (int64_t i = at; i < at + chunk.count; ++i) fresh_.data()[i] = (y[i] - x()[i]) / root_.data()[i];
  }

  // HMC draws a fresh momentum together with its first half kick, and takes the leapfrog's whole
  // steps.
  void travel(const Block& block, int64_t k) {
    const T spread = static_cast<T>(std::sqrt(temperature_));
    const auto make = [&](double size) { return std::pair(static_cast<T>(0.5 * size), spread); };
    T* p = moving_.data();
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      affine(chunk, block, k, score_.data(), T(0), make, fresh_.data());
      if (slopes_.root) by_root(chunk, at, fresh_.data(), p);
      move(chunk, at, x(), slopes_.root ? p : fresh_.data(), work_.x());
    });
    for (int64_t i = 1; i < n_leapfrog_; ++i) {
      work_.make_score(given_.x, block);
      this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
        still(chunk, at);
        for (int times = slopes_.root ? 2 : 0; times > 0; --times)
          by_root(chunk, at, work_.score(), work_.score());
        move(chunk, at, i == 1 && !slopes_.root ? fresh_.data() : p, work_.score(), p);
        move(chunk, at, work_.x(), p, work_.x());
      });
    }
    if (slopes_.root)
      for (int64_t i = 0; i < block.count; ++i) p[i] = p[i] / root_.data()[i];
  }

  // Sets the score to 0 outside of the mask.
  void still(const Chunk& chunk, int64_t at) {
    const uint8_t* mask = this->mask(chunk);
    if (!mask) return;
    T* score = work_.score() + at;
    for (int64_t i = 0; i < chunk.count; ++i) score[i] = mask[i] ? score[i] : T(0);
  }

  void by_root(const Chunk& chunk, int64_t at, const T* in, T* out) const {
    kernels_of<T>().scaled(chunk.count, 1, in + at, root_.data() + at, out + at);
  }

  // Computes out = from + step v. Where all samples share one step size, its product with v is
  // rounded to x's dtype, as the op leapfrog does.
  void move(const Chunk& chunk, int64_t at, const T* from, const T* v, T* out) {
    const bool each = steps_.per_sample();
    const int64_t rows = each ? chunk.rows : 1, width = each ? chunk.width : chunk.count;
    const double* size = &sizes_[at / shape_.elements];
    T by[kCalls];
    for (int64_t row = 0; row < rows; ++row) by[row] = static_cast<T>(size[row]);
    if (each || !given_.x.is_half()) {
      kernels_of<T>().moved(rows, width, from + at, v + at, by, out + at);
    } else {
      kernels_of<T>().scaled(rows, width, v + at, by, a_.data);
      given_.x.round(chunk.count, a_.data);
      for (int64_t i = 0; i < chunk.count; ++i) out[at + i] = from[at + i] + a_.data[i];
    }
    given_.x.round(chunk.count, out + at);
  }

  // A large sample's chunks are summed first; small samples are tested by the chunk.
  void test(const Block& block, int64_t k) {
    T before[kCalls], after[kCalls];
    if (!shape_.chunks_per_sample) {
      this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
        squares(chunk, at, block, before, after);
        decide(chunk, block, k, before, after);
        choose(chunk, at);
      });
      return;
    }
    double sum_before = 0, sum_after = 0;
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      if (!chunk.element) sum_before = sum_after = 0;
      squares(chunk, at, block, before, after);
      sum_before += static_cast<double>(before[0]), sum_after += static_cast<double>(after[0]);
      if (chunk.element + chunk.width < shape_.elements) return;
      before[0] = static_cast<T>(sum_before), after[0] = static_cast<T>(sum_after);
      decide(chunk, block, k, before, after);
    });
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) { choose(chunk, at); });
  }

  // Sums the squares that the test compares, for each row of the chunk.
  void squares(const Chunk& chunk, int64_t at, const Block& block, T* before, T* after) const {
    const int64_t first = chunk.sample - block.sample;
    const T *plus = &plus_[first], *minus = &minus_[first];
    const auto& sum = kernels_of<T>().squares;
    const T *score = score_.data() + at, *new_score = work_.score() + at, *fresh = fresh_.data() + at;
    if (steps_.is_mala && !slopes_.root) {
      const T *x = x_.data() + at, *y = work_.x() + at;
      sum(chunk.rows, chunk.width, {score, x, y}, minus, T(-1), T(1), before);
      sum(chunk.rows, chunk.width, {new_score, x, y}, plus, T(-1), T(1), after);
    } else {
      const T* last = n_leapfrog_ > 1 ? moving_.data() + at : fresh;
      sum(chunk.rows, chunk.width, {score, fresh, nullptr}, minus, T(1), T(0), before);
      sum(chunk.rows, chunk.width, {new_score, last, nullptr}, plus, T(1), T(0), after);
    }
  }

  void decide(const Chunk& chunk, const Block& block, int64_t k, const T* before, const T* after) {
    const float* uniforms = draw_uniforms(tests_, chunk, block, k, test_buffer_);
    decisions_.make(chunk, chunk.sample - block.sample, temperature_, before, after, uniforms);
    decisions_.learn(chunk, k);
    if (double* report = decisions_.report(chunk, k)) {
      for (int64_t row = 0; row < chunk.rows; ++row) report[row] = size(k, chunk.sample + row);
    }
  }

  // Takes the proposals that were accepted.
  void choose(const Chunk& chunk, int64_t at) {
    const bool* accept = decisions_.accept(chunk);
    kernels_of<T>().choose(chunk.rows, chunk.width, accept, work_.x() + at, x_.data() + at);
    kernels_of<T>().choose(chunk.rows, chunk.width, accept, work_.score() + at, score_.data() + at);
  }

  const Steps& steps_;
  const Averaging& averaging_;
  const int64_t n_leapfrog_;
  Decisions<T> decisions_;
  const NoiseSource tests_, jitters_;
  const Slopes& slopes_;
  double temperature_ = 1;
  // With HMC, fresh_ is the momentum half a kick after it was drawn, and moving_ the later momenta.
  // With MALA and a root, fresh_ is the move in the coordinates x / root.
  Line<T> x_, score_, fresh_, moving_, root_, room_;
  std::vector<double> sizes_;
  std::vector<T> plus_, minus_;  // the step sizes of the test, and their negatives
  NoiseBuffer test_buffer_, jitter_buffer_;
  Buffer<T> a_, b_, c_;
};

}  // namespace pyebm
