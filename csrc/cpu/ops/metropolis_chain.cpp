// metropolis_chain: many steps of MALA or HMC, each of which gives the bits of the ops that take
// one step at a time (pyebm/samplers/mala.py, hmc.py). A block of samples stays in the cache
// through all steps.
#include <tuple>
#include <utility>
#include <vector>

#include "../loops/chain.h"
#include "../loops/density.h"
#include "../loops/metropolis.h"

namespace pyebm {
namespace {

// A chain's step size, and the numbers of Metropolis' test that follow from it. With jitter each
// step draws its size between size (1 - jitter) and size (1 + jitter).
struct Steps {
  Coefficient size;
  double temperature, jitter;
  bool is_mala;

  bool per_sample() const { return size.per_sample() || jitter > 0; }
  double at(int64_t sample, const float* uniforms, int64_t row) const {
    return jitter > 0 ? (1.0 + jitter * (2.0 * static_cast<double>(uniforms[row]) - 1.0)) * size[sample]
                      : size[sample];
  }
  // The step size in the squares that the test compares; and the number that divides their
  // difference.
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

// `work` holds the proposal and its score; x_ and score_ hold the state and its score.
template <class T, class Work>
class MetropolisSteps : public StepsOfBlock<T, Work> {
  using Base = StepsOfBlock<T, Work>;
  using Base::as_before, Base::shape_, Base::given_, Base::work_, Base::kNone;

 public:
  template <class Make>
  MetropolisSteps(const Blocks& blocks, Make make, const Given& given, const Steps& steps, int64_t n_leapfrog,
                  double constant, const View& score, const Held& held)
      : Base(blocks.shape, make, given),
        steps_(steps),
        n_leapfrog_(n_leapfrog),
        tests_(given.noise.on_stream(1)),
        jitters_(steps.jitter > 0 ? given.noise.on_stream(2) : given.noise),
        constant_(constant),
        score_view_(score),
        held_(held),
        x_(blocks[0].count),
        score_(blocks[0].count),
        fresh_(steps.is_mala ? 0 : blocks[0].count),
        moving_(steps.is_mala ? 0 : blocks[0].count),
        room_(blocks[0].count + blocks[0].rows),
        proposed_(blocks[0].rows),
        sizes_(blocks[0].rows) {}

  T* x() const { return x_.data(); }
  void begin(const Block& block) {
    work_.read(given_.x, block);
    std::copy(work_.x(), work_.x() + block.count, x());
    read_numbers(score_view_, block.first, block.count, score_.data());
  }
  void step(const Block& block, int64_t k) {
    draw_sizes(block, k);
    if (steps_.is_mala)
      this->for_each_chunk(block, [&](const Chunk& chunk, int64_t) { propose(chunk, block, k); });
    else
      travel(block, k);
    work_.make_both(given_.x, block, room_.data(), proposed_.data());
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) { test(chunk, at, block, k); });
  }
  void end(const Block& block) {
    work_.write(given_.x, block.first, block, x());
    work_.write(score_view_, block.first, block, score_.data());
  }

 private:
  // Draws a uniform for each sample of the chunk.
  const float* draw_uniforms(const NoiseSource& noise, const Chunk& chunk, const Block& block, int64_t k,
                             NoiseBuffer& buffer) const {
    return this->draw(noise, chunk.of_one_element(), block, k, buffer, chunk_kernels().uniforms);
  }

  // Fills sizes_ for the block: once, or in every step where there is jitter.
  void draw_sizes(const Block& block, int64_t k) {
    if (k > 0 && steps_.jitter == 0) return;
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t) {
      const bool drawn = steps_.jitter > 0;
      const float* uniforms = drawn ? draw_uniforms(jitters_, chunk, block, k, jitter_buffer_) : nullptr;
      for (int64_t row = 0; row < chunk.rows; ++row) {
        sizes_[chunk.sample + row - block.sample] = steps_.at(chunk.sample + row, uniforms, row);
      }
    });
  }

  // Computes out = (a x + b score) + c z, where make(size) gives b and c for each sample's step
  // size.
  template <class Make>
  void affine(const Chunk& chunk, const Block& block, int64_t k, const T* x, T a, Make make, T* out) {
    const float* z = this->draw(chunk, block, k);
    const int64_t at = chunk.first - block.first;
    const int64_t row = at / shape_.elements;
    if (!steps_.per_sample()) {
      const auto [b, c] = make(sizes_[row]);
      kernels_of<T>().step(chunk.count, x + at, score_.data() + at, z, nullptr, a, b, c, kNoBounds<T>,
                           out + at, nullptr);
    } else {
      T b_each[kCalls], c_each[kCalls];
      for (int64_t i = 0; i < chunk.rows; ++i) std::tie(b_each[i], c_each[i]) = make(sizes_[row + i]);
      std::fill(a_.data, a_.data + chunk.count, a);
      kernels_of<T>().repeat(chunk.count, chunk.width, 0, b_each, b_.data);
      kernels_of<T>().repeat(chunk.count, chunk.width, 0, c_each, c_.data);
      kernels_of<T>().step_each(chunk.count, x + at, score_.data() + at, z, nullptr, a_.data, b_.data,
                                c_.data, kNoBounds<T>, out + at, nullptr);
    }
    given_.x.round(chunk.count, out + at);
  }

  // MALA proposes by Langevin's step.
  void propose(const Chunk& chunk, const Block& block, int64_t k) {
    const auto make = [&](double size) {
      return std::pair(static_cast<T>(size), static_cast<T>(std::sqrt(2.0 * size * steps_.temperature)));
    };
    affine(chunk, block, k, x(), T(1), make, work_.x());
  }

  // HMC draws a fresh momentum together with its first half kick, and takes the leapfrog's whole
  // steps.
  void travel(const Block& block, int64_t k) {
    const T spread = static_cast<T>(std::sqrt(steps_.temperature));
    const auto make = [&](double size) { return std::pair(static_cast<T>(0.5 * size), spread); };
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      affine(chunk, block, k, score_.data(), T(0), make, fresh_.data());
      move(chunk, at, x(), fresh_.data(), work_.x());
    });
    for (int64_t i = 1; i < n_leapfrog_; ++i) {
      work_.make_score(given_.x, block);
      this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
        move(chunk, at, i == 1 ? fresh_.data() : moving_.data(), work_.score(), moving_.data());
        move(chunk, at, work_.x(), moving_.data(), work_.x());
      });
    }
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

  void test(const Chunk& chunk, int64_t at, const Block& block, int64_t k) {
    T plus[kCalls], minus[kCalls], before[kCalls], after[kCalls];
    const int64_t first = chunk.sample - block.sample;
    for (int64_t row = 0; row < chunk.rows; ++row) {
      plus[row] = static_cast<T>(steps_.tested(sizes_[first + row]));
      minus[row] = -plus[row];
    }
    const auto& squares = kernels_of<T>().squares;
    const T *x = x_.data() + at, *y = work_.x() + at, *score = score_.data() + at,
            *new_score = work_.score() + at;
    if (steps_.is_mala) {
      squares(chunk.rows, chunk.width, {score, x, y}, minus, T(-1), T(1), before);
      squares(chunk.rows, chunk.width, {new_score, x, y}, plus, T(-1), T(1), after);
    } else {
      const T* last = (n_leapfrog_ == 1 ? fresh_.data() : moving_.data()) + at;
      squares(chunk.rows, chunk.width, {score, fresh_.data() + at, nullptr}, minus, T(1), T(0), before);
      squares(chunk.rows, chunk.width, {new_score, last, nullptr}, plus, T(1), T(0), after);
    }
    const float* uniforms = draw_uniforms(tests_, chunk, block, k, test_buffer_);
    double *energy = held_.energy + chunk.sample, *log_alpha = held_.log_alpha + chunk.sample,
           *proposed = &proposed_[first];
    bool* accept = held_.accept + chunk.sample;
    const bool each = steps_.per_sample();
    PYEBM_VECTOR_LOOP
    for (int64_t row = 0; row < chunk.rows; ++row) {
      const double difference = static_cast<double>(before[row]) - static_cast<double>(after[row]);
      proposed[row] += constant_;
      log_alpha[row] = log_acceptance(energy[row], proposed[row], steps_.temperature, difference,
                                      steps_.divisor(sizes_[each ? first + row : first]));
    }
    decide(chunk.rows, log_alpha, uniforms, accept);
    chunk_kernels().add_flags(chunk.rows, accept, held_.accepted + chunk.sample);
    kernels_of<double>().choose(chunk.rows, 1, accept, proposed, energy);
    kernels_of<T>().choose(chunk.rows, chunk.width, accept, y, x_.data() + at);
    kernels_of<T>().choose(chunk.rows, chunk.width, accept, new_score, score_.data() + at);
  }

  const Steps& steps_;
  const int64_t n_leapfrog_;
  const NoiseSource tests_, jitters_;
  const double constant_;
  const View& score_view_;
  const Held& held_;
  Line<T> x_, score_, fresh_, moving_, room_;
  std::vector<double> proposed_, sizes_;
  NoiseBuffer test_buffer_, jitter_buffer_;
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
  const Given given{View(x), View(), NoiseSource(args.name, args.seeds, args.ids, Shape(x))};
  given.noise.require_steps(n_steps);
  if (Shape(x).chunks_per_sample)
    fail(op, ": x must have samples of at most ", kChunk / 2, " elements, got ", x.numel() / samples);
  const View slope(args.score);
  const int64_t scores = n_steps * (n_leapfrog + 2);  // a step costs about n_leapfrog + 2 of Langevin's
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    on_density<T>(op, x, args.density, {true, true, scores}, [&](const Blocks& blocks, auto make) {
      run_chain(blocks, n_steps, Kept(x, std::nullopt, std::nullopt), [&] {
        using Made = MetropolisSteps<T, decltype(make())>;
        return std::make_unique<Made>(blocks, make, given, steps, n_leapfrog, args.constant, slope, held);
      });
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, metropolis_chain); }
