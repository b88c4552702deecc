// metropolis: take proposals or stay, with all that follows from it. The arithmetic is a few numbers a sample; in torch's own
// operations calling them would take ten times as long.
#include <torch/csrc/stable/library.h>

#include <cmath>

#include "samples.h"

namespace pyebm {
namespace {

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
        decisions[b] = std::log(static_cast<double>(uniform[row])) < alphas[b];  // never where it is NaN
        if (!decisions[b]) continue;
        ++counts[b];
        energies[b] = energy_of;
        to_x.copy(b, from_x);
        to_score.copy(b, from_score);
      }
    };
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { m.impl("metropolis", TORCH_BOX(&pyebm::metropolis)); }
