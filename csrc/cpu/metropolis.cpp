// metropolis: take proposals or stay, with all that follows from it; dual_averaging: the next step sizes. The arithmetic is a few
// numbers a sample; in torch's own operations calling them would take ten times as long.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "batch_mean.h"
#include "samples.h"

namespace pyebm {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kSteep = 20.0, kSlowStart = 10.0, kReach = 50.0;  // as pyebm/reference/metropolis.py

// A tensor whose samples lie one after another, to be copied as they are.
class Rows {
 public:
  Rows(const char* name, const Tensor& tensor, const Tensor& like)
      : data_(static_cast<char*>(tensor.numel() ? tensor.data_ptr() : nullptr)),
        bytes_(tensor.size(0) ? tensor.numel() / tensor.size(0) * static_cast<int64_t>(tensor.element_size()) : 0) {
    if (!tensor.is_contiguous() || tensor.scalar_type() != like.scalar_type() || tensor.numel() != like.numel()) {
      fail("metropolis: ", name, " must be contiguous and like x");
    }
  }
  void copy(int64_t sample, const Rows& from) const {
    char* to = data_ + sample * bytes_;
    if (bytes_ == 8) return void(std::memcpy(to, from.data_ + sample * 8, 8));  // two float32, without a call
    if (bytes_) std::memcpy(to, from.data_ + sample * bytes_, bytes_);
  }

 private:
  char* data_;
  int64_t bytes_;
};

// A number a sample that is written to.
template <class T>
T* numbers(const char* op, const char* name, const Tensor& tensor, ScalarType type, int64_t samples) {
  if (!tensor.is_contiguous() || tensor.scalar_type() != type || tensor.numel() != samples) {
    fail(op, ": ", name, " must be contiguous, one number for each of ", samples, " samples, got ", tensor.numel());
  }
  return static_cast<T*>(tensor.numel() ? tensor.data_ptr() : nullptr);
}

// The sums of squares that the proposal's density comes down to. MALA's, at the steps' ends: |y - x - eta s(x)|^2 and
// |x - y - eta s(y)|^2, of x and y as they were rounded. HMC's, of the momenta half a step before and behind: |p - eps/2 s(x)|^2
// and |p' + eps/2 s(y)|^2, so its `step` is half of one.
template <class T>
class Squares {
 public:
  Squares(const Tensor& x, const Tensor& score, const Tensor& proposal, const Tensor& proposal_score,
          const std::optional<Tensor>& first, const std::optional<Tensor>& last, const Coefficient& step)
      : score_(score),
        proposal_score_(proposal_score),
        x_(x),
        proposal_(proposal),
        first_(first),
        last_(last),
        is_mala_(!first),
        step_(step) {}

  // Of the chunk's rows.
  void of(const Chunk& chunk, T* before, T* after) {
    T kappa[kCalls], minus[kCalls];
    for (int64_t row = 0; row < chunk.rows; ++row) {
      kappa[row] = static_cast<T>(step_[chunk.sample + row]);
      minus[row] = -kappa[row];
    }
    const auto at = [&](const View& view, Buffer<T>& work) { return view.read(chunk.first, chunk.count, work.data); };
    const T lambda = is_mala_ ? T(-1) : T(1), mu = is_mala_ ? T(1) : T(0);
    const T* y = is_mala_ ? at(proposal_, proposal_work_) : nullptr;
    const T* z = at(is_mala_ ? x_ : first_, work_);
    const auto& kernel = kernels_of<T>().squares;
    kernel(chunk.rows, chunk.width, {at(score_, score_work_), z, y}, minus, lambda, mu, before);
    if (!is_mala_) z = at(last_, work_);
    kernel(chunk.rows, chunk.width, {at(proposal_score_, score_work_), z, y}, kappa, lambda, mu, after);
  }

 private:
  View score_, proposal_score_, x_, proposal_, first_, last_;
  bool is_mala_;
  Coefficient step_;
  Buffer<T> score_work_, proposal_work_, work_;
};

void metropolis(Tensor x, Tensor score, Tensor energy, Tensor accepted, Tensor accept, Tensor log_alpha, Tensor proposal,
                Tensor proposal_score, Tensor proposal_energy, double step, double scale, double temperature, Tensor name,
                std::optional<Tensor> first, std::optional<Tensor> last, std::optional<Tensor> step_rows,
                std::optional<Tensor> scale_rows, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  const Shape shape(x), one(accept);  // one uniform a sample
  const int64_t samples = shape.samples;
  const NoiseSource noise(name, seeds, ids, one);
  const Rows to_x("x", x, x), to_score("score", score, x), from_x("proposal", proposal, x),
      from_score("proposal_score", proposal_score, x);
  double* energies = numbers<double>("metropolis", "energy", energy, ScalarType::Double, samples);
  int64_t* counts = numbers<int64_t>("metropolis", "accepted", accepted, ScalarType::Long, samples);
  bool* decisions = numbers<bool>("metropolis", "accept", accept, ScalarType::Bool, samples);
  double* alphas = numbers<double>("metropolis", "log_alpha", log_alpha, ScalarType::Double, samples);
  const ScalarType type = proposal_energy.scalar_type();
  if (proposal_energy.dim() != 1 || proposal_energy.numel() != samples ||
      (type != ScalarType::Float && type != ScalarType::Double)) {
    fail("metropolis: proposal_energy must be float32 or float64 of shape (", samples, ",)");
  }
  if (first.has_value() != last.has_value() || (first && (first->numel() != x.numel() || last->numel() != x.numel()))) {
    fail("metropolis: first and last must be momenta like x, or neither given");
  }
  const Coefficient proposed(0.0, proposal_energy), divisor(scale, scale_rows);
  // before, after: of the samples from the first of `rows` on.
  const auto decide = [&](const Chunk& rows, const auto* before, const auto* after, NoiseBuffer& buffer) {
    const float* uniforms = noise.fill(rows, buffer, chunk_kernels().uniforms);
    for (int64_t row = 0; row < rows.rows; ++row) {
      const int64_t b = rows.sample + row;
      const double energy_of = proposed[b], uniform = uniforms[row];
      const double squares = static_cast<double>(before[row]) - static_cast<double>(after[row]);
      // An energy of -infinity would be accepted, and then never left.
      const double alpha = energy_of == -kInfinity ? -kInfinity : (energies[b] - energy_of) / temperature + squares / divisor[b];
      alphas[b] = alpha;
      // log u < alpha, mostly without the logarithm: 1 - 1/u <= log u <= u - 1. Never where alpha is NaN.
      decisions[b] = alpha > uniform - 1.0 || (!(uniform * (1.0 - alpha) >= 1.0) && std::log(uniform) < alpha);
      if (!decisions[b]) continue;
      ++counts[b];
      energies[b] = energy_of;
      to_x.copy(b, from_x);
      to_score.copy(b, from_score);
    }
  };
  with_compute_type(x, [&](auto compute) {
    using T = decltype(compute);
    const auto make_squares = [&] { return Squares<T>(x, score, proposal, proposal_score, first, last, {step, step_rows}); };
    if (shape.samples_per_chunk) {
      for_each_chunk(shape, [&] {
        return [&, squares = make_squares(), buffer = NoiseBuffer()](const Chunk& chunk, int64_t) mutable {
          T before[kCalls], after[kCalls];
          squares.of(chunk, before, after);
          decide(chunk.of_one_element(), before, after, buffer);
        };
      });
      return;
    }
    // Large samples: the sums of their chunks first, of the shape alone, as is the order in which they are added.
    const int64_t parts = shape.chunks_per_sample;
    std::vector<T> partial(2 * samples * parts);
    for_each_chunk(shape, [&] {
      return [&, squares = make_squares()](const Chunk& chunk, int64_t index) mutable {
        squares.of(chunk, &partial[index], &partial[samples * parts + index]);
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
        decide(rows, before, after, buffer);
      };
    });
  });
}

void dual_averaging(Tensor step_size, Tensor log_average, Tensor gap, Tensor steps, Tensor log_alpha, Tensor middle, int64_t warmup,
                    double target, bool together) {
  const char* op = "dual_averaging";
  const int64_t samples = step_size.numel();
  double* sizes = numbers<double>(op, "step_size", step_size, ScalarType::Double, samples);
  double* averages = numbers<double>(op, "log_average", log_average, ScalarType::Double, samples);
  double* gaps = numbers<double>(op, "gap", gap, ScalarType::Double, samples);
  const double* alphas = numbers<double>(op, "log_alpha", log_alpha, ScalarType::Double, samples);
  const double* middles = numbers<double>(op, "middle", middle, ScalarType::Double, samples);
  double& m = *numbers<double>(op, "steps", steps, ScalarType::Double, 1);
  if (++m > static_cast<double>(warmup)) return;
  // weight: m^-3/4. By operations that IEEE rounds, so that all backends have the same bits.
  const double share = 1.0 / (m + kSlowStart), root = std::sqrt(m), slope = root * kSteep, weight = 1.0 / std::sqrt(m * root);
  const ChunkKernels& kernels = chunk_kernels();
  double shared = 0;
  if (together) {
    std::vector<double> all(samples);
    kernels.probabilities(samples, alphas, all.data());
    shared = batch_mean(std::move(all));
  }
  constexpr int64_t kGrain = 4096, kAtOnce = 256;  // samples: some 20 us
  torch::stable::parallel_for(0, samples, kGrain, [&](int64_t begin, int64_t end) {
    double acceptance[kAtOnce];
    for (int64_t at = begin; at < end; at += kAtOnce) {
      const int64_t n = std::min(kAtOnce, end - at);
      if (!together) kernels.probabilities(n, alphas + at, acceptance);
      for (int64_t b = at; b < at + n; ++b) {
        gaps[b] = (1.0 - share) * gaps[b] + share * (target - (together ? shared : acceptance[b - at]));
        // A chain that never moves, or always does, must not end with a step of 0 or infinity, which the kernels refuse.
        const double log_step = middles[b] - std::clamp(slope * gaps[b], -kReach, kReach);
        averages[b] = weight * log_step + (1.0 - weight) * averages[b];
        sizes[b] = m < static_cast<double>(warmup) ? log_step : averages[b];
      }
      kernels.exponentials(n, sizes + at, sizes + at);
    }
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  m.impl("metropolis", TORCH_BOX(&pyebm::metropolis));
  m.impl("dual_averaging", TORCH_BOX(&pyebm::dual_averaging));
}
