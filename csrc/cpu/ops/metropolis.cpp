// metropolis: each sample takes its proposal or stays, and its score, energy and count follow;
// dual_averaging: the next step sizes. The arithmetic is a few numbers per sample; calls of torch's
// own operations would take ten times as long.
#include <algorithm>
#include <vector>

#include "../loops/batch_mean.h"
#include "../loops/metropolis.h"
#include "../loops/chunk_noise.h"

namespace pyebm {
namespace {

// A tensor whose samples lie one after another, so that bytes can be copied from one tensor to
// another.
class SampleBytes {
 public:
  explicit SampleBytes(const Tensor& tensor)
      : data_(static_cast<char*>(tensor.numel() ? tensor.data_ptr() : nullptr)),
        bytes_(tensor.size(0) ? tensor.numel() / tensor.size(0) * static_cast<int64_t>(tensor.element_size())
                              : 0) {}
  void copy(int64_t sample, const SampleBytes& from) const {
    char* to = data_ + sample * bytes_;
    if (bytes_ == 8) return void(std::memcpy(to, from.data_ + sample * 8, 8));  // two float32, without a call
    if (bytes_) std::memcpy(to, from.data_ + sample * bytes_, bytes_);
  }

 private:
  char* data_;
  int64_t bytes_;
};

template <class T>
T* numbers(const Tensor& tensor) {
  return static_cast<T*>(tensor.numel() ? tensor.data_ptr() : nullptr);
}

// The sums of squares that the proposal's density comes down to. MALA takes |y - x - eta s(x)|^2
// and |x - y - eta s(y)|^2, from the two ends of the step, with x and y as they were rounded. HMC
// takes |p - eps/2 s(x)|^2 and |p' + eps/2 s(y)|^2, from the momenta half a step before p and
// behind p', so that its `step` is half a step size.
template <class T>
class Squares {
 public:
  explicit Squares(const args::Metropolis& args)
      : score_(args.score),
        proposal_score_(args.proposal_score),
        x_(args.x),
        proposal_(args.proposal),
        first_(args.first),
        last_(args.last),
        is_mala_(!args.first),
        step_(args.step, args.step_rows) {}

  // Computes both sums of each of the chunk's rows.
  void sum(const Chunk& chunk, T* before, T* after) {
    T kappa[kCalls], minus[kCalls];
    for (int64_t row = 0; row < chunk.rows; ++row) {
      kappa[row] = static_cast<T>(step_[chunk.sample + row]);
      minus[row] = -kappa[row];
    }
    const auto read = [&](const View& view, Buffer<T>& work) {
      return view.read(chunk.first, chunk.count, work.data);
    };
    const T lambda = is_mala_ ? T(-1) : T(1), mu = is_mala_ ? T(1) : T(0);
    const T* y = is_mala_ ? read(proposal_, proposal_work_) : nullptr;
    const T* z = read(is_mala_ ? x_ : first_, work_);
    const auto& kernel = kernels_of<T>().squares;
    kernel(chunk.rows, chunk.width, {read(score_, score_work_), z, y}, minus, lambda, mu, before);
    if (!is_mala_) z = read(last_, work_);
    kernel(chunk.rows, chunk.width, {read(proposal_score_, score_work_), z, y}, kappa, lambda, mu, after);
  }

 private:
  View score_, proposal_score_, x_, proposal_, first_, last_;
  bool is_mala_;
  Coefficient step_;
  Buffer<T> score_work_, proposal_work_, work_;
};

void metropolis(const args::Metropolis& args) {
  const Shape shape(args.x), one(args.accept);  // one uniform a sample
  const int64_t samples = shape.samples;
  const NoiseSource noise(args.name, args.seeds, args.ids, one);
  const SampleBytes to_x(args.x), to_score(args.score), from_x(args.proposal),
      from_score(args.proposal_score);
  double *energies = numbers<double>(args.energy), *alphas = numbers<double>(args.log_alpha);
  int64_t* counts = numbers<int64_t>(args.accepted);
  bool* decisions = numbers<bool>(args.accept);
  const Coefficient proposed(0.0, args.proposal_energy), divisor(args.scale, args.scale_rows);
  // before, after: the sums of squares of the samples in `rows`, beginning with the first.
  const auto test = [&](const Chunk& rows, const auto* before, const auto* after, NoiseBuffer& buffer) {
    const float* uniforms = noise.fill(rows, buffer, chunk_kernels().uniforms);
    for (int64_t row = 0; row < rows.rows; ++row) {
      const int64_t b = rows.sample + row;
      const double squares = static_cast<double>(before[row]) - static_cast<double>(after[row]);
      alphas[b] = log_acceptance(energies[b], proposed[b], args.temperature, squares, divisor[b]);
    }
    decide(rows.rows, alphas + rows.sample, uniforms, decisions + rows.sample);
    for (int64_t b = rows.sample; b < rows.sample + rows.rows; ++b) {
      if (!decisions[b]) continue;
      ++counts[b];
      energies[b] = proposed[b];
      to_x.copy(b, from_x);
      to_score.copy(b, from_score);
    }
  };
  with_compute_type(args.x, [&](auto compute) {
    using T = decltype(compute);
    if (shape.samples_per_chunk) {
      for_each_chunk(shape, [&] {
        return [&, squares = Squares<T>(args), buffer = NoiseBuffer()](const Chunk& chunk, int64_t) mutable {
          T before[kCalls], after[kCalls];
          squares.sum(chunk, before, after);
          test(chunk.of_one_element(), before, after, buffer);
        };
      });
      return;
    }
    // Large samples: the chunks are summed first. The shape alone fixes their sums and the order in
    // which these are added.
    const int64_t parts = shape.chunks_per_sample;
    std::vector<T> partial(2 * samples * parts);
    for_each_chunk(shape, [&] {
      return [&, squares = Squares<T>(args)](const Chunk& chunk, int64_t index) mutable {
        squares.sum(chunk, &partial[index], &partial[samples * parts + index]);
      };
    });
    const auto sum = [&](int64_t sample) {
      double total = 0;
      for (int64_t k = 0; k < parts; ++k) total += static_cast<double>(partial[sample * parts + k]);
      return static_cast<T>(total);
    };
    for_each_chunk(one, [&] {
      return [&, buffer = NoiseBuffer()](const Chunk& rows, int64_t) mutable {
        T before[kCalls], after[kCalls];
        for (int64_t row = 0; row < rows.rows; ++row) {
          before[row] = sum(rows.sample + row);
          after[row] = sum(samples + rows.sample + row);
        }
        test(rows, before, after, buffer);
      };
    });
  });
}

void dual_averaging(const args::DualAveraging& args) {
  const int64_t samples = args.step_size.numel();
  const AveragedRows rows{numbers<double>(args.step_size), numbers<double>(args.log_average),
                          numbers<double>(args.gap), numbers<double>(args.middle)};
  const double* alphas = numbers<double>(args.log_alpha);
  double& m = *numbers<double>(args.steps);
  const double warmup = static_cast<double>(args.warmup);
  const bool together = args.together;
  if (++m > warmup) return;
  const ChunkKernels& kernels = chunk_kernels();
  double shared = 0;
  if (together) {
    std::vector<double> all(samples);
    kernels.probabilities(samples, alphas, all.data());
    shared = batch_mean(std::move(all));
  }
  constexpr int64_t kGrain = 4096, kAtOnce = 256;  // samples: some 20 us
  const auto adapt = [&](int64_t begin, int64_t end) {
    double acceptance[kAtOnce];
    for (int64_t at = begin; at < end; at += kAtOnce) {
      const int64_t n = std::min(kAtOnce, end - at);
      if (!together) kernels.probabilities(n, alphas + at, acceptance);
      learn(
          n, m, warmup, args.target, [&](int64_t i) { return together ? shared : acceptance[i]; },
          rows.from(at));
    }
  };
  parallel(samples, kGrain, [&] { return adapt; });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  PYEBM_IMPL(m, metropolis);
  PYEBM_IMPL(m, dual_averaging);
}
