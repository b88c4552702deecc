// A chunk of a loss: its coefficients, its noise and its operands, as the kernels of loss_kernels.h
// take them.
#pragma once

#include "runs.h"

namespace pyebm {

enum Reduction : int64_t { kNone, kSample, kSum, kMean, kBatchMean };

inline double divisor_of(int64_t reduction, const Shape& shape) {
  const double samples = static_cast<double>(shape.samples), elements = static_cast<double>(shape.elements);
  return reduction == kMean ? samples * elements : reduction == kBatchMean ? samples : 1.0;
}

enum Wanted { kResiduals, kWeights, kWeightsAndGradients };

// LossRows with the gradient from above, where that gradient is one number for all samples or one
// for each.
template <class T>
struct ScaledLossRows : LossRows<T> {
  const T* above;
};

template <class T>
using LossNumbers = RunNumbers<T, 5, 6>;

// The coefficients of a loss: kappa, lambda, mu, weight, and the gradient from above.
struct Coefficients {
  static constexpr int64_t kSamplesAtOnce = kLossesOfBlock;
  Runs<5> runs;
  double factor;
  bool over_kappa2;
  double divisor;  // what the reduction divides the sum by

  bool by_parts(const Chunk& chunk) const { return runs.by_rows(chunk) || runs.are_long(chunk); }

  // Calls visit(at, rows, width, numbers) for each part of the chunk: some rows, or one run, whose
  // elements begin at `at`. `wanted` says which numbers the kernel reads. If it reads only kappa,
  // lambda and mu, and at most a weight that all samples share, it gets the coefficients as they
  // are; else it gets numbers computed from them.
  template <class T, class Visit>
  void for_each_part(LossNumbers<T>& numbers, const Chunk& chunk, Wanted wanted, Visit visit) const {
    if (runs.by_rows(chunk)) {
      if (wanted == kResiduals || (wanted == kWeights && !over_kappa2 && !runs[3].run())) {
        const auto values = numbers.of_rows(runs, chunk);
        const T* weight =
            wanted == kWeights ? numbers.of_all(static_cast<T>(factor * runs[3][0]), chunk.rows) : nullptr;
        return visit(0, chunk.rows, chunk.width,
                     ScaledLossRows<T>{{values[0], values[1], values[2], weight, nullptr}, nullptr});
      }
      return numbers.for_some_rows(runs, chunk, make<T>(),
                                   [&](int64_t row, int64_t n, const T* const* values) {
                                     visit(row * chunk.width, n, chunk.width, rows(values));
                                   });
    }
    numbers.for_each_run(runs, chunk, make<T>(), [&](int64_t at, int64_t n, const std::array<T, 6>& values) {
      visit(at, 1, n,
            ScaledLossRows<T>{{&values[0], &values[1], &values[2], &values[3], &values[4]}, &values[5]});
    });
  }
  template <class T>
  ScaledLossRows<T> of_each(LossNumbers<T>& numbers, const Chunk& chunk) const {
    return rows(numbers.of_each(runs, chunk, make<T>()).data());
  }

  // Whether the weight of the squares changes within samples. If it does, the sums are of weighted
  // squares; if not, each sample's sum is multiplied by its weight.
  bool weighs_elements(const Shape& shape) const {
    const auto changes = [&](const Coefficient& one) { return one.run() && one.run() % shape.elements; };
    return changes(runs[3]) || (over_kappa2 && changes(runs[0]));
  }

  bool weights_change() const { return runs[3].run() || (over_kappa2 && runs[0].run()); }

  // Reads the weights of n samples, for a loss whose weight does not change within samples.
  void weights(int64_t sample, int64_t n, const Shape& shape, double* out) const {
    double kappa[kSamplesAtOnce];
    runs[3].read(sample, n, shape.elements, out);
    if (over_kappa2) runs[0].read(sample, n, shape.elements, kappa);
    for (int64_t i = 0; i < n; ++i)
      out[i] = loss_weight(over_kappa2 ? kappa[i] : 1.0, out[i], factor, over_kappa2);
  }

 private:
  template <class T>
  static ScaledLossRows<T> rows(const T* const* values) {
    return {{values[0], values[1], values[2], values[3], values[4]}, values[5]};
  }

  template <class T>
  auto make() const {
    return [this](int64_t n, const auto& values, T* const* out) {
      kernels_of<T>().loss_rows(n, values, factor, over_kappa2, 1.0 / divisor, out);
    };
  }
};

// The noise z of a chunk: the caller's own, or generated anew.
template <class T, class Z>
class LossNoise {
 public:
  LossNoise(const View& own, const NoiseSource* noise) : own_(own), noise_(noise) {}
  // Returns the chunk's noise. The loss's other operands come into the cache meanwhile.
  const Z* fill(const Chunk& chunk, const View& pred, const View& x0, const View& out) {
    if constexpr (std::is_same_v<Z, float>) {
      if (noise_) {
        buffer_.will_need(chunk, {&pred, &x0}, {&out});
        return noise_->fill(chunk, buffer_);
      }
    }
    return own_.template read<Z>(chunk.first, chunk.count, work_.data);
  }

 private:
  const View& own_;
  const NoiseSource* noise_;
  NoiseBuffer buffer_;
  Buffer<Z> work_;
};

// Calls make() once a thread to get its work, and work(chunk, operands, numbers, out_buffer,
// extra_buffer) for all chunks; the work writes into `out`, which may be empty. A thread takes whole
// runs of `span` chunks, in order.
template <class T, class Z, class Make>
void for_each_loss_chunk(const Shape& shape, int64_t span, const Tensor& pred, const std::optional<Tensor>& z,
                         const std::optional<Tensor>& x0, const NoiseSource* noise, const View& out,
                         Make make) {
  const View pred_view(pred), z_view(z), x0_view(x0);
  for_each_chunk(shape, span, [&] {
    return [&, work = make(), z_source = LossNoise<T, Z>(z_view, noise), pred_work = Buffer<T>(),
            x0_work = Buffer<T>(), out_work = Buffer<T>(), extra_work = Buffer<T>(),
            numbers = LossNumbers<T>()](const Chunk& chunk, int64_t) mutable {
      const Z* noise_of_chunk = z_source.fill(chunk, pred_view, x0_view, out);
      const LossOperands<T, Z> operands{
          pred_view.read(chunk.first, chunk.count, pred_work.data), noise_of_chunk,
          x0_view ? x0_view.read(chunk.first, chunk.count, x0_work.data) : nullptr};
      work(chunk, operands, numbers, out_work.data, extra_work.data);
    };
  });
}

template <class T, class Z>
LossOperands<T, Z> shifted(const LossOperands<T, Z>& in, int64_t at) {
  return {in.pred + at, in.z + at, in.x0 ? in.x0 + at : nullptr};
}

// Calls body(T(), Z()): T is the type of the arithmetic, Z the type of z as it lies in memory or
// comes from the generator.
template <class Body>
void with_loss_types(const Tensor& pred, bool own_noise, Body body) {
  if (pred.scalar_type() != ScalarType::Double) return body(float(), float());
  own_noise ? body(double(), double()) : body(double(), float());
}

}  // namespace pyebm
