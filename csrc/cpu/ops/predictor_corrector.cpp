// predictor_corrector: many times of a reverse diffusion. Each time gives the bits of the scores,
// corrector_steps and affine_step that it consists of (pyebm/samplers/predictor_corrector.py).
// Where step sizes follow the norms of each sample, a block goes through all times by itself; where
// they follow the means over the batch, all blocks wait for each mean.
#include <atomic>
#include <vector>

#include "../loops/batch_mean.h"
#include "../loops/chain.h"
#include "../loops/density.h"

namespace pyebm {
namespace {

// The numbers of each time: the factor of |z|^2 / |score|^2 in the corrector's step size, and the
// predictor's a, b and c.
struct Times {
  static constexpr int64_t kCount = 4;
  const double* numbers;
  int64_t correctors;
  bool predicts;

  const double* at(int64_t k) const { return numbers + k * kCount; }
};

// Each sample's |z|^2 and |score|^2. `bad` holds its first step size that was not positive and
// finite, or 1; `first_bad` says at which time, and for which sample, the earliest of them came.
struct Norms {
  std::vector<double> noise, score, bad;
  std::atomic<int64_t> first_bad{INT64_MAX};  // time * samples + sample

  explicit Norms(int64_t samples) : noise(samples), score(samples), bad(samples, 1.0) {}

  void refuse(int64_t k, int64_t sample, double step_size) {
    if (bad[sample] != 1.0) return;  // it went wrong before
    bad[sample] = step_size;
    const int64_t found = k * static_cast<int64_t>(bad.size()) + sample;
    int64_t before = first_bad;
    while (found < before && !first_bad.compare_exchange_weak(before, found)) {
    }
  }
  void require() const {
    if (first_bad == INT64_MAX) return;
    const auto sample = static_cast<size_t>(first_bad) % bad.size();
    fail("corrector_step: step_size must be > 0 and finite, got ", bad[sample], " for sample ",
         static_cast<int64_t>(sample));
  }
};

bool is_step_size(double value) { return value > 0 && value < std::numeric_limits<double>::infinity(); }

template <class T, class Work>
class PredictorCorrectorSteps : public StepsOfBlock<T, Work> {
  using Base = StepsOfBlock<T, Work>;
  using Base::given_, Base::work_;

 public:
  using Base::x;

  template <class Make>
  PredictorCorrectorSteps(const Blocks& blocks, Make make, const Given& given, const Times& times,
                          const Bounds<T>& bounds, Norms& norms)
      : Base(blocks.shape, make, given),
        times_(times),
        bounds_(bounds),
        norms_(norms),
        sizes_(blocks[0].rows) {}

  T* score() const { return work_.score(); }

  // Makes the score at x, and the squared norms of the score and of the noise.
  void measure(const Block& block, int64_t k, int64_t j) {
    this->impose(block, k, 1 + times_.correctors + j);
    work_.make_score(given_.x, block, k);
    const auto rows_of = [&](std::vector<double>& all) { return all.data() + block.sample; };
    double *noise = rows_of(norms_.noise), *score = rows_of(norms_.score);
    std::fill(noise, noise + block.rows, 0.0);
    std::fill(score, score + block.rows, 0.0);
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      T sums[kCalls];
      const int64_t first = chunk.sample - block.sample;
      loss_kernels_of<T, float>().squares(chunk.rows, chunk.width, draw(chunk, k, 1 + j), sums);
      for (int64_t row = 0; row < chunk.rows; ++row) noise[first + row] += sums[row];
      loss_kernels_of<T, T>().squares(chunk.rows, chunk.width, work_.score() + at, sums);
      for (int64_t row = 0; row < chunk.rows; ++row) score[first + row] += sums[row];
    });
    for (int64_t row = 0; row < block.rows; ++row) {  // as the loss kernel rounds them
      noise[row] = static_cast<T>(noise[row]);
      score[row] = static_cast<T>(score[row]);
    }
  }

  // Takes a corrector's step of the same size for all samples.
  void correct(const Block& block, int64_t k, int64_t j, double size) {
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      take(chunk.count, at, draw(chunk, k, 1 + j), this->mask(chunk), 1.0, size, std::sqrt(2.0 * size));
    });
    given_.x.round(block.count, x());
  }

  void predict(const Block& block, int64_t k) {
    this->impose(block, k, 1 + 2 * times_.correctors);
    work_.make_score(given_.x, block, k);
    const double* of = times_.at(k) + 1;
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      const float* z = of[2] == 0 ? kNoNormals : draw(chunk, k, 0);
      take(chunk.count, at, z, this->mask(chunk), of[0], of[1], of[2]);
    });
    given_.x.round(block.count, x());
  }

  // Takes all steps of time k, with step sizes that follow each sample's norms.
  void step(const Block& block, int64_t k) {
    for (int64_t j = 0; j < times_.correctors; ++j) {
      measure(block, k, j);
      for (int64_t row = 0; row < block.rows; ++row) {
        const int64_t sample = block.sample + row;
        sizes_[row] = norms_.noise[sample] / norms_.score[sample] * times_.at(k)[0];
        if (!is_step_size(sizes_[row])) norms_.refuse(k, sample, sizes_[row]);
      }
      this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
        const float* z = draw(chunk, k, 1 + j);
        const uint8_t* mask = this->mask(chunk);
        for (int64_t row = 0; row < chunk.rows; ++row) {
          const int64_t begin = row * chunk.width;
          const double size = sizes_[chunk.sample + row - block.sample];
          take(chunk.width, at + begin, z + begin, mask ? mask + begin : nullptr, 1.0, size,
               std::sqrt(2.0 * size));
        }
      });
      given_.x.round(block.count, x());
    }
    if (times_.predicts) predict(block, k);
  }

 private:
  const float* draw(const Chunk& chunk, int64_t k, int64_t stream) {
    const NoiseSource noise = given_.noise.on_stream(stream);
    noise.lay_out(chunk, buffer_.calls);
    return noise.drawn(chunk, k, buffer_);
  }

  void take(int64_t n, int64_t at, const float* z, const uint8_t* mask, double a, double b, double c) {
    kernels_of<T>().step(n, x() + at, work_.score() + at, z, mask, static_cast<T>(a), static_cast<T>(b),
                         static_cast<T>(c), bounds_, x() + at, nullptr);
  }

  const Times& times_;
  const Bounds<T> bounds_;
  Norms& norms_;
  std::vector<double> sizes_;
  NoiseBuffer buffer_;
};

double mean_root(std::vector<double> squares) {
  for (double& each : squares) each = std::sqrt(each);
  return batch_mean(std::move(squares));
}

// Takes all blocks as far as the next mean of the norms, which makes the step size of all samples.
template <class T, class Make>
void run_together(const Blocks& blocks, int64_t n_steps, const Times& times, const Kept& kept, Norms& norms,
                  Make make) {
  const Line<T> scores(blocks.shape.samples * blocks.shape.elements);
  double size = 0;
  for (int64_t i = 0, all = n_steps * times.correctors; i <= all; ++i) {
    const int64_t last = i - 1, k = i / times.correctors, j = i % times.correctors;
    for_each_block(blocks, [&] {
      return [&, steps = make()](const Block& block) {
        steps->begin(block);
        T* score = scores.data() + block.first;
        if (last >= 0) {
          const int64_t before = last / times.correctors, corrector = last % times.correctors;
          std::copy(score, score + block.count, steps->score());
          steps->correct(block, before, corrector, size);
          if (corrector == times.correctors - 1) {
            if (times.predicts) steps->predict(block, before);
            kept.after(before, block, steps->x());
          }
        }
        if (i < all) {
          steps->measure(block, k, j);
          std::copy(steps->score(), steps->score() + block.count, score);
        }
        steps->end(block);
      };
    });
    if (i == all) return;
    const double z = mean_root(norms.noise), g = mean_root(norms.score);
    size = z * z / (g * g) * times.at(k)[0];
    if (is_step_size(size)) continue;
    norms.refuse(k, 0, size);
    norms.require();
  }
}

void predictor_corrector(const args::PredictorCorrector& args) {
  const char* op = "predictor_corrector";
  const Tensor &x = args.x, &table = args.coefficients;
  const int64_t n_steps = args.n_steps;
  if (table.size(0) != n_steps || table.size(1) != Times::kCount) {
    fail(op, ": coefficients must have a row of ", Times::kCount, " for each of ", n_steps, " steps, got (",
         table.size(0), ", ", table.size(1), ")");
  }
  const Times times{static_cast<const double*>(table.numel() ? table.data_ptr() : nullptr), args.correctors,
                    args.predicts};
  const Given given{View(x),
                    View(args.mask),
                    NoiseSource(args.name, args.seeds, args.ids, Shape(x)),
                    {op, args.known, args.marginals, args.mask, n_steps}};
  given.noise.require_steps(n_steps);
  given.noise.on_stream(args.known ? 2 * args.correctors + 1 : args.correctors);
  Norms norms(x.size(0));
  const Kept kept(x, args.states, args.thin);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const Bounds<T> bounds = bounds_of<T>(args.low, args.high);
    const bool together = args.together && args.correctors > 0;
    const Needs needs{true, false, together ? 1 : n_steps * (args.correctors + 1)};
    on_network<T>(op, x, args.layout, args.params, args.biases, n_steps, true, needs,
                  [&](const Blocks& blocks, auto buffers) {
                    const auto make = [&] {
                      using Made = PredictorCorrectorSteps<T, decltype(buffers())>;
                      return std::make_unique<Made>(blocks, buffers, given, times, bounds, norms);
                    };
                    if (!together || !x.size(0))
                      return run_chain(blocks, n_steps, kept, make);  // without samples there is no mean
                    run_together<T>(blocks, n_steps, times, kept, norms, make);
                  });
  });
  norms.require();
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, predictor_corrector); }
