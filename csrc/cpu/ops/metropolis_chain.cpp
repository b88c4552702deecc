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

// The step sizes and temperatures, and the numbers of Metropolis' test that follow from them. With
// jitter each step draws its size between size (1 - jitter) and size (1 + jitter).
struct Steps {
  ChainCoefficient size, temperature;
  double jitter;
  bool is_mala, sizes_by_sample;

  bool per_sample() const { return sizes_by_sample || jitter > 0; }
  double jittered(double size, const float* uniforms, int64_t row) const {
    return uniforms ? (1.0 + jitter * (2.0 * static_cast<double>(uniforms[row]) - 1.0)) * size : size;
  }
  // The step size in the squares that the test compares; and the number that divides their
  // difference.
  double tested(double step) const { return is_mala ? step : 0.5 * step; }
  double divisor(double step, double t) const { return is_mala ? 4.0 * t * step : 2.0 * t; }
};

// The dual averaging of each chain's own step size, in the chain's first steps.
struct Averaging {
  AveragedRows rows{};
  int64_t done = 0, warmup = 0;
  double target = 0;

  explicit operator bool() const { return rows.sizes != nullptr; }
  bool learns(int64_t k) const { return done + k < warmup; }
};

// The caller's tensors that hold one number for each chain; and the reports, which hold four for
// each kept state.
struct Held {
  double* energy;
  int64_t* accepted;
  bool* accept;
  double *log_alpha, *reports;
  int64_t thin, samples;

  // The reports after step k, or null. The second, third and fourth numbers lie `samples` further
  // each.
  double* report(int64_t k, int64_t sample) const {
    if (!reports || (k + 1) % thin) return nullptr;
    return reports + ((k + 1) / thin - 1) * 4 * samples + sample;
  }
};

// The chain's score and root, which is 1 / sqrt(mass). With a root, momenta and scores are those of
// x / root, in which every mass is 1.
struct Slopes {
  View score, root;
};

// `work` holds the proposal and its score; x_ and score_ hold the state and its score.
template <class T, class Work>
class MetropolisSteps : public StepsOfBlock<T, Work> {
  using Base = StepsOfBlock<T, Work>;
  using Base::as_before, Base::shape_, Base::given_, Base::work_, Base::kNone;

 public:
  template <class Make>
  MetropolisSteps(const Blocks& blocks, Make make, const Given& given, const Steps& steps,
                  const Averaging& averaging, int64_t n_leapfrog, double constant, const Slopes& slopes,
                  const Held& held)
      : Base(blocks.shape, make, given),
        steps_(steps),
        averaging_(averaging),
        n_leapfrog_(n_leapfrog),
        tests_(given.noise.on_stream(1)),
        jitters_(steps.jitter > 0 ? given.noise.on_stream(2) : given.noise),
        constant_(constant),
        slopes_(slopes),
        held_(held),
        x_(blocks[0].count),
        score_(blocks[0].count),
        fresh_(steps.is_mala && !slopes.root ? 0 : blocks[0].count),
        moving_(steps.is_mala && !slopes.root ? 0 : blocks[0].count),
        root_(slopes.root ? blocks[0].count : 0),
        room_(blocks[0].count + blocks[0].rows),
        proposed_(blocks[0].rows),
        sizes_(blocks[0].rows) {}

  T* x() const { return x_.data(); }
  void begin(const Block& block) {
    work_.read(given_.x, block);
    std::copy(work_.x(), work_.x() + block.count, x());
    read_numbers(slopes_.score, block.first, block.count, score_.data());
    if (slopes_.root) read_numbers(slopes_.root, block.first, block.count, root_.data());
  }
  void step(const Block& block, int64_t k) {
    temperature_ = steps_.temperature.at(k, 0);
    find_sizes(block, k);
    if (steps_.is_mala)
      this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) { propose(chunk, at, block, k); });
    else
      travel(block, k);
    work_.make_both(given_.x, block, room_.data(), proposed_.data());
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

  // Fills sizes_ for the block: once, or in every step where they change.
  void find_sizes(const Block& block, int64_t k) {
    const bool drawn = steps_.jitter > 0;
    if (k > 0 && !drawn && !averaging_ && !steps_.size.per_step()) return;
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t) {
      if (chunk.element) return;
      const float* uniforms = drawn ? draw_uniforms(jitters_, chunk, block, k, jitter_buffer_) : nullptr;
      for (int64_t sample = chunk.sample; sample < chunk.sample + chunk.rows; ++sample) {
        sizes_[sample - block.sample] = steps_.jittered(size(k, sample), uniforms, sample - chunk.sample);
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
        decide_rows(chunk, block, k, before, after);
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
      decide_rows(chunk, block, k, before, after);
    });
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) { choose(chunk, at); });
  }

  // Sums the squares that the test compares, for each row of the chunk.
  void squares(const Chunk& chunk, int64_t at, const Block& block, T* before, T* after) const {
    T plus[kCalls], minus[kCalls];
    const int64_t first = chunk.sample - block.sample;
    for (int64_t row = 0; row < chunk.rows; ++row) {
      plus[row] = static_cast<T>(steps_.tested(sizes_[first + row]));
      minus[row] = -plus[row];
    }
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

  void decide_rows(const Chunk& chunk, const Block& block, int64_t k, const T* before, const T* after) {
    const int64_t sample = chunk.sample, first = sample - block.sample;
    const float* uniforms = draw_uniforms(tests_, chunk, block, k, test_buffer_);
    double *energy = held_.energy + sample, *log_alpha = held_.log_alpha + sample,
           *proposed = &proposed_[first];
    bool* accept = held_.accept + sample;
    const bool each = steps_.per_sample();
    PYEBM_VECTOR_LOOP
    for (int64_t row = 0; row < chunk.rows; ++row) {
      const double difference = static_cast<double>(before[row]) - static_cast<double>(after[row]);
      proposed[row] += constant_;
      log_alpha[row] = log_acceptance(energy[row], proposed[row], temperature_, difference,
                                      steps_.divisor(sizes_[each ? first + row : first], temperature_));
    }
    decide(chunk.rows, log_alpha, uniforms, accept);
    chunk_kernels().add_flags(chunk.rows, accept, held_.accepted + sample);
    kernels_of<double>().choose(chunk.rows, 1, accept, proposed, energy);
    if (averaging_.learns(k)) {
      double acceptance[kCalls];
      chunk_kernels().probabilities(chunk.rows, log_alpha, acceptance);
      learn(
          chunk.rows, static_cast<double>(averaging_.done + k + 1), static_cast<double>(averaging_.warmup),
          averaging_.target, [&](int64_t i) { return acceptance[i]; }, averaging_.rows.from(sample));
    }
    report(chunk, k);
  }

  void report(const Chunk& chunk, int64_t k) const {
    double* report = held_.report(k, chunk.sample);
    if (!report) return;
    for (int64_t row = 0, sample = chunk.sample; row < chunk.rows; ++row, ++sample) {
      report[row] = held_.energy[sample];
      report[row + held_.samples] = held_.log_alpha[sample];
      report[row + 2 * held_.samples] = held_.accept[sample] ? 1.0 : 0.0;
      report[row + 3 * held_.samples] = size(k, sample);
    }
  }

  // Takes the proposals that were accepted.
  void choose(const Chunk& chunk, int64_t at) {
    const bool* accept = held_.accept + chunk.sample;
    kernels_of<T>().choose(chunk.rows, chunk.width, accept, work_.x() + at, x_.data() + at);
    kernels_of<T>().choose(chunk.rows, chunk.width, accept, work_.score() + at, score_.data() + at);
  }

  const Steps& steps_;
  const Averaging& averaging_;
  const int64_t n_leapfrog_;
  const NoiseSource tests_, jitters_;
  const double constant_;
  const Slopes& slopes_;
  const Held& held_;
  double temperature_ = 1;
  // With HMC, fresh_ is the momentum half a kick after it was drawn, and moving_ the later momenta.
  // With MALA and a root, fresh_ is the move in the coordinates x / root.
  Line<T> x_, score_, fresh_, moving_, root_, room_;
  std::vector<double> proposed_, sizes_;
  NoiseBuffer test_buffer_, jitter_buffer_;
  Buffer<T> a_, b_, c_;
};

template <class T>
T* numbers(const Tensor& tensor) {
  return static_cast<T*>(tensor.numel() ? tensor.data_ptr() : nullptr);
}

void require_table(const char* op, const char* name, const MaybeTensor& table, int64_t rows,
                   int64_t samples) {
  if (table && (table->size(0) != rows || table->size(1) != samples))
    fail(op, ": ", name, " must have the shape (", rows, ", ", samples, "), got (", table->size(0), ", ",
         table->size(1), ")");
}

Averaging averaging_of(const char* op, const args::Averaging& args, int64_t samples) {
  if (!args.averaging) return {};
  require_table(op, "averaging", args.averaging, 4, samples);
  double* rows = numbers<double>(*args.averaging);
  Coefficient(rows, samples, samples).require(op, "step_size", true);
  return {{rows, rows + samples, rows + 2 * samples, rows + 3 * samples},
          *args.averaged,
          *args.warmup,
          *args.acceptance};
}

void metropolis_chain(const args::MetropolisChain& args) {
  const char* op = "metropolis_chain";
  const Tensor& x = args.x;
  const int64_t samples = x.size(0), n_steps = args.n_steps, n_leapfrog = args.n_leapfrog,
                thin = args.thin.value_or(n_steps + 1);
  require_table(op, "reports", args.reports, 4 * (n_steps / thin), samples);
  if (args.temperature_rows && args.temperature_rows->size(0) != n_steps)
    fail(op, ": temperature must have one value for each of ", n_steps, " steps, got ",
         args.temperature_rows->size(0));
  if (args.root && x.element_size() < 4) fail(op, ": x must be float32 or float64 where root is given");
  const Held held{numbers<double>(args.energy),
                  numbers<int64_t>(args.accepted),
                  numbers<bool>(args.accept),
                  numbers<double>(args.log_alpha),
                  args.reports ? numbers<double>(*args.reports) : nullptr,
                  thin,
                  samples};
  const Averaging averaging = averaging_of(op, args.averages, samples);
  const bool by_step = args.step_size_per_step.value_or(false);
  const Steps steps{{args.step_size, args.step_size_rows, args.step_size_per_step},
                    {args.temperature, args.temperature_rows, true},
                    args.jitter,
                    n_leapfrog == 0,
                    averaging || (args.step_size_rows && !by_step)};
  if (!averaging) steps.size.require(op, "step_size", true);
  steps.temperature.require(op, "temperature", true);
  const Given given{View(x), View(args.mask), NoiseSource(args.name, args.seeds, args.ids, Shape(x))};
  given.noise.require_steps(n_steps);
  const Slopes slopes{View(args.score), View(args.root)};
  const int64_t scores = n_steps * (n_leapfrog + 2);  // a step costs about n_leapfrog + 2 of Langevin's
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    on_density<T>(op, x, args.density, {true, true, scores}, [&](const Blocks& blocks, auto make) {
      run_chain(blocks, n_steps, Kept(x, args.states, args.thin), [&] {
        using Made = MetropolisSteps<T, decltype(make())>;
        return std::make_unique<Made>(blocks, make, given, steps, averaging, n_leapfrog, args.constant,
                                      slopes, held);
      });
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, metropolis_chain); }
