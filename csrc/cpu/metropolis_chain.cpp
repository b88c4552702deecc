// metropolis_chain: many steps of MALA or HMC, each the bits of the ops that take one step by step (pyebm/samplers/mala.py,
// hmc.py). A block of samples stays in the cache through all of them.
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "density.h"
#include "metropolis.h"

namespace pyebm {
namespace {

// A chain's step size, and the numbers of Metropolis' test that follow from it. With jitter each step draws its size from
// size (1 - jitter, 1 + jitter).
struct Steps {
  Coefficient size;
  double temperature, jitter;
  bool is_mala;

  bool per_sample() const { return size.per_sample() || jitter > 0; }
  double at(int64_t sample, const float* uniforms, int64_t row) const {
    return jitter > 0 ? (1.0 + jitter * (2.0 * static_cast<double>(uniforms[row]) - 1.0)) * size[sample] : size[sample];
  }
  // The step size whose squares the test compares, and what divides them.
  double tested(double step) const { return is_mala ? step : 0.5 * step; }
  double divisor(double step) const { return is_mala ? 4.0 * temperature * step : 2.0 * temperature; }
};

// The caller's tensors that hold one number for each chain.
struct Held {
  double* energy;
  int64_t* accepted;
  bool* accept;
  double* log_alpha;
};

// One thread's buffers, and in `work` the proposal and its score. run() takes a block of chains through all steps before the next
// block begins.
template <class T, class Work>
class Chains {
 public:
  template <class Make>
  Chains(const Blocks& blocks, Make make, const Steps& steps, const NoiseSource& noise, double constant, const View& x,
         const View& score, const Held& held)
      : shape_(blocks.shape),
        steps_(steps),
        noise_(noise),
        tests_(noise.on_stream(1)),
        jitters_(steps.jitter > 0 ? noise.on_stream(2) : noise),
        constant_(constant),
        x_view_(x),
        score_view_(score),
        held_(held),
        work_(make()),
        x_(blocks[0].count),
        score_(blocks[0].count),
        fresh_(steps.is_mala ? 0 : blocks[0].count),
        moving_(steps.is_mala ? 0 : blocks[0].count),
        room_(blocks[0].count + blocks[0].rows),
        proposed_(blocks[0].rows),
        sizes_(blocks[0].rows) {}

  void run(const Block& block, int64_t n_steps, int64_t n_leapfrog) {
    work_.read(score_view_, block);
    std::copy(work_.x(), work_.x() + block.count, score_.data());
    work_.read(x_view_, block);
    std::copy(work_.x(), work_.x() + block.count, x_.data());
    for (int64_t k = 0; k < n_steps; ++k) {
      draw_sizes(block, k);
      if (steps_.is_mala)
        for_each_chunk(block, [&](const Chunk& chunk, int64_t) { propose(chunk, block, k); });
      else
        travel(block, k, n_leapfrog);
      work_.make_both(x_view_, block, room_.data(), proposed_.data());
      for_each_chunk(block, [&](const Chunk& chunk, int64_t at) { test(chunk, at, block, k, n_leapfrog); });
    }
    work_.write(x_view_, block.first, block, x_.data());
    work_.write(score_view_, block.first, block, score_.data());
  }

 private:
  template <class Body>
  void for_each_chunk(const Block& block, Body body) {
    for (int64_t index = block.begin; index < block.end; ++index) {
      const Chunk chunk(shape_, index);
      body(chunk, chunk.first - block.first);
    }
  }

  // Where a block is one chunk, the calls laid out for its first step serve the others.
  static bool as_before(const Block& block, int64_t k) { return k > 0 && block.end - block.begin == 1; }

  // A uniform for each sample of the chunk.
  static const float* draw_uniforms(const NoiseSource& noise, const Chunk& chunk, const Block& block, int64_t k,
                                    NoiseBuffer& buffer) {
    const Chunk rows = chunk.of_one_element();
    if (!as_before(block, k)) noise.lay_out(rows, buffer.calls);
    return noise.drawn(rows, k, buffer, chunk_kernels().uniforms);
  }

  // Fills sizes_ for the block: once, or in every step where there is jitter.
  void draw_sizes(const Block& block, int64_t k) {
    if (k > 0 && steps_.jitter == 0) return;
    for_each_chunk(block, [&](const Chunk& chunk, int64_t) {
      const bool drawn = steps_.jitter > 0;
      const float* uniforms = drawn ? draw_uniforms(jitters_, chunk, block, k, jitter_buffer_) : nullptr;
      for (int64_t row = 0; row < chunk.rows; ++row) {
        sizes_[chunk.sample + row - block.sample] = steps_.at(chunk.sample + row, uniforms, row);
      }
    });
  }

  // out = (a x + b score) + c z, b and c made from each sample's step size.
  template <class Make>
  void step(const Chunk& chunk, const Block& block, int64_t k, const T* x, T a, Make make, T* out) {
    if (!as_before(block, k)) noise_.lay_out(chunk, buffer_.calls);
    const float* z = noise_.drawn(chunk, k, buffer_);
    const int64_t at = chunk.first - block.first;
    constexpr T kNone = std::numeric_limits<T>::infinity();
    const int64_t row = at / shape_.elements;
    if (!steps_.per_sample()) {
      const auto [b, c] = make(sizes_[row]);
      kernels_of<T>().step(chunk.count, x + at, score_.data() + at, z, nullptr, a, b, c, {-kNone, kNone, kNone}, out + at, nullptr);
    } else {
      T b_each[kCalls], c_each[kCalls];
      for (int64_t i = 0; i < chunk.rows; ++i) std::tie(b_each[i], c_each[i]) = make(sizes_[row + i]);
      std::fill(a_.data, a_.data + chunk.count, a);
      kernels_of<T>().repeat(chunk.count, chunk.width, 0, b_each, b_.data);
      kernels_of<T>().repeat(chunk.count, chunk.width, 0, c_each, c_.data);
      kernels_of<T>().step_each(chunk.count, x + at, score_.data() + at, z, nullptr, a_.data, b_.data, c_.data,
                                {-kNone, kNone, kNone}, out + at, nullptr);
    }
    x_view_.round(chunk.count, out + at);
  }

  // MALA: Langevin's step.
  void propose(const Chunk& chunk, const Block& block, int64_t k) {
    const auto make = [&](double size) {
      return std::pair(static_cast<T>(size), static_cast<T>(std::sqrt(2.0 * size * steps_.temperature)));
    };
    step(chunk, block, k, x_.data(), T(1), make, work_.x());
  }

  // HMC: a fresh momentum with its first half kick, and the leapfrog's whole steps.
  void travel(const Block& block, int64_t k, int64_t n_leapfrog) {
    const T spread = static_cast<T>(std::sqrt(steps_.temperature));
    const auto make = [&](double size) { return std::pair(static_cast<T>(0.5 * size), spread); };
    for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      step(chunk, block, k, score_.data(), T(0), make, fresh_.data());
      move(chunk, at, x_.data(), fresh_.data(), work_.x());
    });
    for (int64_t i = 1; i < n_leapfrog; ++i) {
      work_.make_score(x_view_, block);
      for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
        move(chunk, at, i == 1 ? fresh_.data() : moving_.data(), work_.score(), moving_.data());
        move(chunk, at, work_.x(), moving_.data(), work_.x());
      });
    }
  }

  // out = from + step v. A step size that is a number is rounded to x's dtype with its product, as the op leapfrog does.
  void move(const Chunk& chunk, int64_t at, const T* from, const T* v, T* out) {
    const bool each = steps_.per_sample();
    const int64_t rows = each ? chunk.rows : 1, width = each ? chunk.width : chunk.count;
    const double* size = &sizes_[at / shape_.elements];
    T by[kCalls];
    for (int64_t row = 0; row < rows; ++row) by[row] = static_cast<T>(size[row]);
    if (each || !x_view_.is_half()) {
      kernels_of<T>().moved(rows, width, from + at, v + at, by, out + at);
    } else {
      kernels_of<T>().scaled(rows, width, v + at, by, a_.data);
      x_view_.round(chunk.count, a_.data);
      for (int64_t i = 0; i < chunk.count; ++i) out[at + i] = from[at + i] + a_.data[i];
    }
    x_view_.round(chunk.count, out + at);
  }

  void test(const Chunk& chunk, int64_t at, const Block& block, int64_t k, int64_t n_leapfrog) {
    T plus[kCalls], minus[kCalls], before[kCalls], after[kCalls];
    const int64_t first = chunk.sample - block.sample;
    for (int64_t row = 0; row < chunk.rows; ++row) {
      plus[row] = static_cast<T>(steps_.tested(sizes_[first + row]));
      minus[row] = -plus[row];
    }
    const auto& squares = kernels_of<T>().squares;
    const T *x = x_.data() + at, *y = work_.x() + at, *score = score_.data() + at, *new_score = work_.score() + at;
    if (steps_.is_mala) {
      squares(chunk.rows, chunk.width, {score, x, y}, minus, T(-1), T(1), before);
      squares(chunk.rows, chunk.width, {new_score, x, y}, plus, T(-1), T(1), after);
    } else {
      const T* last = (n_leapfrog == 1 ? fresh_.data() : moving_.data()) + at;
      squares(chunk.rows, chunk.width, {score, fresh_.data() + at, nullptr}, minus, T(1), T(0), before);
      squares(chunk.rows, chunk.width, {new_score, last, nullptr}, plus, T(1), T(0), after);
    }
    const float* uniforms = draw_uniforms(tests_, chunk, block, k, test_buffer_);
    double *energy = held_.energy + chunk.sample, *log_alpha = held_.log_alpha + chunk.sample, *proposed = &proposed_[first];
    bool* accept = held_.accept + chunk.sample;
    for (int64_t row = 0; row < chunk.rows; ++row) {
      const double difference = static_cast<double>(before[row]) - static_cast<double>(after[row]);
      proposed[row] += constant_;
      log_alpha[row] =
          log_acceptance(energy[row], proposed[row], steps_.temperature, difference, steps_.divisor(sizes_[first + row]));
    }
    for (int64_t row = 0; row < chunk.rows; ++row) accept[row] = accepts(log_alpha[row], uniforms[row]);
    for (int64_t row = 0; row < chunk.rows; ++row) held_.accepted[chunk.sample + row] += accept[row];
    select<1>(chunk.rows, 1, accept, proposed, energy);
    take(chunk, accept, y, x_.data() + at);
    take(chunk, accept, new_score, score_.data() + at);
  }

  // Copies the accepted samples. The processor can't predict which those are, so short samples are chosen by bit masks; for a
  // long sample the copy that is saved outweighs a mispredicted branch.
  static void take(const Chunk& chunk, const bool* accept, const T* from, T* to) {
    constexpr int64_t kLong = 32;
    if (chunk.width == 1) return select<1>(chunk.rows, 1, accept, from, to);
    if (chunk.width == 2) return select<2>(chunk.rows, 2, accept, from, to);
    if (chunk.width <= kLong) return select<0>(chunk.rows, chunk.width, accept, from, to);
    for (int64_t row = 0, at = 0; row < chunk.rows; ++row, at += chunk.width) {
      if (accept[row]) std::copy(from + at, from + at + chunk.width, to + at);
    }
  }

  template <int kWidth, class S>
  static void select(int64_t rows, int64_t any_width, const bool* accept, const S* from, S* to) {
    using Bits = std::conditional_t<sizeof(S) == 8, uint64_t, uint32_t>;
    const int64_t width = kWidth ? kWidth : any_width;
    for (int64_t row = 0, at = 0; row < rows; ++row) {
      const Bits mask = Bits(0) - Bits(accept[row]);
      for (const int64_t end = at + width; at < end; ++at) {
        Bits old, fresh;
        std::memcpy(&old, to + at, sizeof old);
        std::memcpy(&fresh, from + at, sizeof fresh);
        old ^= (old ^ fresh) & mask;
        std::memcpy(to + at, &old, sizeof old);
      }
    }
  }

  const Shape& shape_;
  const Steps& steps_;
  const NoiseSource noise_, tests_, jitters_;
  double constant_;
  const View &x_view_, &score_view_;
  const Held& held_;
  Work work_;
  Line<T> x_, score_, fresh_, moving_, room_;
  std::vector<double> proposed_, sizes_;
  NoiseBuffer buffer_, test_buffer_, jitter_buffer_;
  Buffer<T> a_, b_, c_;
};

template <class T>
T* numbers(const Tensor& tensor) {
  return static_cast<T*>(tensor.numel() ? tensor.data_ptr() : nullptr);
}

void metropolis_chain(const args::MetropolisChain& args) {
  const char* op = "metropolis_chain";
  const Tensor& x = args.x;
  const int64_t samples = x.size(0), n_steps = args.n_steps, n_leapfrog = args.n_leapfrog;
  const Held held{numbers<double>(args.energy), numbers<int64_t>(args.accepted), numbers<bool>(args.accept),
                  numbers<double>(args.log_alpha)};
  const Steps steps{{args.step_size, args.step_size_rows}, args.temperature, args.jitter, n_leapfrog == 0};
  steps.size.require(op, "step_size", true);
  const NoiseSource noise(args.name, args.seeds, args.ids, Shape(x));
  noise.require_steps(n_steps);
  const View state(x), slope(args.score);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    if (Shape(x).chunks_per_sample)
      fail(op, ": x must have samples of at most ", kChunk / 2, " elements, got ", x.numel() / samples);
    const int64_t scores = n_steps * (n_leapfrog + 2);  // a step costs about as much as so many of Langevin's
    on_density<T>(op, x, args.density, {true, true, scores}, [&](const Blocks& blocks, auto make) {
      for_each_block(blocks, [&] {
        using Made = Chains<T, decltype(make())>;
        return [&, chains = std::make_unique<Made>(blocks, make, steps, noise, args.constant, state, slope, held)](
                   const Block& block) { chains->run(block, n_steps, n_leapfrog); };
      });
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, metropolis_chain); }
