// metropolis: take proposals or stay, with all that follows from it; dual_averaging: the next step sizes. The arithmetic is a few
// numbers a sample; in torch's own operations calling them would take ten times as long.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "samples.h"

namespace pyebm {
namespace {

constexpr double kShrink = 0.05, kSlowStart = 10.0, kForget = 0.75, kReach = 50.0;  // as pyebm/reference/metropolis.py

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
    if (bytes_) std::memcpy(data_ + sample * bytes_, from.data_ + sample * bytes_, bytes_);
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

void metropolis(Tensor x, Tensor score, Tensor energy, Tensor accepted, Tensor accept, Tensor log_alpha, Tensor proposal,
                Tensor proposal_score, Tensor proposal_energy, Tensor before, Tensor after, double scale, double temperature,
                Tensor name, std::optional<Tensor> scale_rows, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  const Shape shape(accept);  // one uniform a sample
  const int64_t samples = shape.samples;
  const NoiseSource noise(name, seeds, ids, shape);
  const Rows to_x("x", x, x), to_score("score", score, x), from_x("proposal", proposal, x),
      from_score("proposal_score", proposal_score, x);
  double* energies = numbers<double>("metropolis", "energy", energy, ScalarType::Double, samples);
  int64_t* counts = numbers<int64_t>("metropolis", "accepted", accepted, ScalarType::Long, samples);
  bool* decisions = numbers<bool>("metropolis", "accept", accept, ScalarType::Bool, samples);
  double* alphas = numbers<double>("metropolis", "log_alpha", log_alpha, ScalarType::Double, samples);
  for (const Tensor* given : {&before, &after, &proposal_energy}) {
    const ScalarType type = given->scalar_type();
    if (given->dim() != 1 || given->numel() != samples || (type != ScalarType::Float && type != ScalarType::Double)) {
      fail("metropolis: before, after and proposal_energy must be float32 or float64 of shape (", samples, ",)");
    }
  }
  const Coefficient first(0.0, before), second(0.0, after), proposed(0.0, proposal_energy), divisor(scale, scale_rows);
  for_each_chunk(shape, [&] {
    return [&, buffer = NoiseBuffer()](const Chunk& chunk, int64_t) mutable {
      const float* uniform = noise.fill(chunk, buffer, chunk_kernels().uniforms);
      for (int64_t row = 0; row < chunk.rows; ++row) {
        const int64_t b = chunk.sample + row;
        const double energy_of = proposed[b];
        alphas[b] = (energies[b] - energy_of) / temperature + (first[b] - second[b]) / divisor[b];
        // Where it is positive no logarithm is needed, for a uniform is at most 1; never where it is NaN.
        decisions[b] = alphas[b] > 0 || std::log(static_cast<double>(uniform[row])) < alphas[b];
        if (!decisions[b]) continue;
        ++counts[b];
        energies[b] = energy_of;
        to_x.copy(b, from_x);
        to_score.copy(b, from_score);
      }
    };
  });
}

// The mean of the acceptance, in blocks of fixed size: one order of adding, whatever the threads.
double mean(const double* acceptance, int64_t samples) {
  constexpr int64_t kBlock = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < samples; begin += kBlock) {
    double sum = 0;
    for (int64_t b = begin; b < std::min(begin + kBlock, samples); ++b) sum += acceptance[b];
    total += sum;
  }
  return total / static_cast<double>(samples);
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
  const double share = 1.0 / (m + kSlowStart), slope = std::sqrt(m) / kShrink, weight = std::pow(m, -kForget);
  const auto acceptance = [&](int64_t b) { return std::isnan(alphas[b]) ? 0.0 : std::exp(std::min(alphas[b], 0.0)); };
  double shared = 0;
  if (together) {
    std::vector<double> all(samples);
    for (int64_t b = 0; b < samples; ++b) all[b] = acceptance(b);
    shared = mean(all.data(), samples);
  }
  constexpr int64_t kGrain = 1024;  // samples, some 20 us
  torch::stable::parallel_for(0, samples, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      gaps[b] = (1.0 - share) * gaps[b] + share * (target - (together ? shared : acceptance(b)));
      // A chain that never moves, or always does, must not end with a step of 0 or infinity, which the kernels refuse.
      const double log_step = middles[b] - std::clamp(slope * gaps[b], -kReach, kReach);
      averages[b] = weight * log_step + (1.0 - weight) * averages[b];
      sizes[b] = std::exp(m < static_cast<double>(warmup) ? log_step : averages[b]);
    }
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  m.impl("metropolis", TORCH_BOX(&pyebm::metropolis));
  m.impl("dual_averaging", TORCH_BOX(&pyebm::dual_averaging));
}
