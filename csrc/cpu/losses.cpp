// denoising_loss: f w_b sum_i r_i^2 with r = (kappa pred + lambda z) + mu x0, and in the same pass its gradient;
// denoising_grad: the gradient by itself; scale_: a kept gradient times what came from above.
#include <torch/csrc/stable/library.h>

#include <vector>

#include "samples.h"

namespace pyebm {
namespace {

enum Reduction : int64_t { kNone, kSample, kSum, kMean, kBatchMean };

struct Coefficients {
  Coefficient kappa, lambda, mu, weight;
  double factor;
  bool over_kappa2;
  double divisor;  // what the reduction divides the sum by

  bool per_sample() const { return kappa.per_sample() || lambda.per_sample() || mu.per_sample() || weight.per_sample(); }
  double loss_weight_of(int64_t b) const { return loss_weight(kappa[b], weight[b], factor, over_kappa2); }
  template <class T>
  LossRow<T> row(int64_t b) const {
    return loss_row<T>(kappa[b], lambda[b], mu[b], loss_weight_of(b), 1.0 / divisor);
  }
};

double divisor_of(int64_t reduction, const Shape& shape) {
  const double samples = static_cast<double>(shape.samples), elements = static_cast<double>(shape.elements);
  return reduction == kMean ? samples * elements : reduction == kBatchMean ? samples : 1.0;
}

// z of a chunk: the caller's own, or made anew.
template <class T, class Z>
class LossNoise {
 public:
  LossNoise(const View& own, const NoiseSource* noise) : own_(own), noise_(noise) {}
  const Z* fill(const Chunk& chunk) {
    if constexpr (std::is_same_v<Z, float>) {
      if (noise_) return noise_->fill(chunk, buffer_);
    }
    return own_.template read<Z>(chunk.first, chunk.count, work_.data);
  }

 private:
  const View& own_;
  const NoiseSource* noise_;
  NoiseBuffer buffer_;
  Buffer<Z> work_;
};

// Calls visit(kernels, chunk, index, sample, at, n, operands, row) for every run of elements that share their coefficients; a run
// never spans samples where `alone`. open(chunk) and close(chunk) surround each chunk.
template <class T, class Z, class Work>
void for_each_loss_chunk(const Shape& shape, const Tensor& pred, const std::optional<Tensor>& z, const std::optional<Tensor>& x0,
                         const NoiseSource* noise, Work work) {
  const View pred_view(pred), z_view(z), x0_view(x0);
  for_each_chunk(shape, [&] {
    return [&, z_source = LossNoise<T, Z>(z_view, noise), pred_work = Buffer<T>(), x0_work = Buffer<T>(), out_work = Buffer<T>(),
            extra_work = Buffer<T>()](const Chunk& chunk, int64_t index) mutable {
      const LossOperands<T, Z> operands{pred_view.read(chunk.first, chunk.count, pred_work.data), z_source.fill(chunk),
                                        x0_view ? x0_view.read(chunk.first, chunk.count, x0_work.data) : nullptr};
      work(chunk, index, operands, out_work.data, extra_work.data);
    };
  });
}

template <class T, class Z>
LossOperands<T, Z> shifted(const LossOperands<T, Z>& in, int64_t at) {
  return {in.pred + at, in.z + at, in.x0 ? in.x0 + at : nullptr};
}

// Calls body(T(), Z()): the type of the arithmetic, and that of z as it lies in memory or comes from the generator.
template <class Body>
void with_loss_types(const Tensor& pred, bool own_noise, Body body) {
  if (pred.scalar_type() != ScalarType::Double) return body(float(), float());
  own_noise ? body(double(), double()) : body(double(), float());
}

void reduce(const Tensor& loss, int64_t reduction, const Coefficients& c, const Shape& shape, const std::vector<double>& partial) {
  const int64_t parts = shape.samples ? static_cast<int64_t>(partial.size()) / shape.samples : 0;
  const bool is_double = loss.scalar_type() == ScalarType::Double;
  const auto put = [&](int64_t index, double value) {
    if (is_double) {
      static_cast<double*>(loss.data_ptr())[index] = value;
    } else {
      static_cast<float*>(loss.data_ptr())[index] = static_cast<float>(value);
    }
  };
  double total = 0;
  for (int64_t b = 0; b < shape.samples; ++b) {
    double sum = 0;
    for (int64_t k = 0; k < parts; ++k) sum += partial[b * parts + k];
    const double sample = c.loss_weight_of(b) * sum;
    if (reduction == kSample) put(b, sample);
    total += sample;
  }
  if (reduction != kSample) put(0, total / c.divisor);
}

Coefficients coefficients(const Shape& shape, double kappa, const std::optional<Tensor>& kappa_rows, double lambda,
                          const std::optional<Tensor>& lambda_rows, double mu, const std::optional<Tensor>& mu_rows, double weight,
                          const std::optional<Tensor>& weight_rows, double factor, bool over_kappa2, int64_t reduction,
                          std::optional<bool> kappa_positive) {
  const Coefficient k(kappa, kappa_rows);
  if (over_kappa2 || kappa_positive.value_or(false)) k.require("dsm_loss", "sigma", true);
  return {k, {lambda, lambda_rows}, {mu, mu_rows}, {weight, weight_rows}, factor, over_kappa2, divisor_of(reduction, shape)};
}

void denoising_loss(Tensor loss, std::optional<Tensor> grad, Tensor pred, double kappa, double lambda, double mu, double weight,
                    double factor, bool over_kappa2, int64_t reduction, std::optional<Tensor> name,
                    std::optional<Tensor> kappa_rows, std::optional<Tensor> lambda_rows, std::optional<Tensor> mu_rows,
                    std::optional<Tensor> weight_rows, std::optional<Tensor> z, std::optional<Tensor> x0,
                    std::optional<Tensor> seeds, std::optional<Tensor> ids, std::optional<bool> kappa_positive) {
  const Shape shape(pred);
  const Coefficients c = coefficients(shape, kappa, kappa_rows, lambda, lambda_rows, mu, mu_rows, weight, weight_rows, factor,
                                      over_kappa2, reduction, kappa_positive);
  const std::optional<NoiseSource> source = z ? std::nullopt : std::optional<NoiseSource>(std::in_place, name, seeds, ids, shape);
  const NoiseSource* noise = source ? &*source : nullptr;
  const View loss_view(loss), grad_view(grad);
  if (reduction == kNone) {
    with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
      using T = decltype(type);
      using Z = decltype(z_type);
      for_each_loss_chunk<T, Z>(shape, pred, z, x0, noise, [&](const Chunk& chunk, int64_t, const auto& in, T* work, T*) {
        T* target = loss_view.target(chunk.first, work);
        for_each_run(chunk, c.per_sample(), [&](int64_t sample, int64_t at, int64_t n) {
          loss_kernels_of<T, Z>().elementwise(n, shifted(in, at), c.row<T>(sample), target + at);
        });
        loss_view.written(chunk.first, chunk.count, target);
      });
    });
    return;
  }
  // One partial sum per chunk of a sample: fixed by the shape alone, and so is the order in which they are added.
  const int64_t parts = std::max<int64_t>(shape.chunks_per_sample, 1);
  std::vector<double> partial(shape.samples * parts, 0.0);
  with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
    using T = decltype(type);
    using Z = decltype(z_type);
    const auto& kernels = loss_kernels_of<T, Z>();
    for_each_loss_chunk<T, Z>(shape, pred, z, x0, noise, [&](const Chunk& chunk, int64_t, const auto& in, T* work, T*) {
      T* target = grad_view ? grad_view.target(chunk.first, work) : nullptr;
      for_each_run(chunk, true, [&](int64_t sample, int64_t at, int64_t n) {
        const LossRow<T> row = c.row<T>(sample);
        partial[sample * parts + chunk.element / kChunk] =
            target ? kernels.sum_and_grad(n, shifted(in, at), row, target + at) : kernels.sum(n, shifted(in, at), row);
      });
      if (target) grad_view.written(chunk.first, chunk.count, target);
    });
  });
  reduce(loss, reduction, c, shape, partial);
}

void denoising_grad(Tensor grad, Tensor grad_output, Tensor pred, double kappa, double lambda, double mu, double weight,
                    double factor, bool over_kappa2, int64_t reduction, std::optional<Tensor> name,
                    std::optional<Tensor> kappa_rows, std::optional<Tensor> lambda_rows, std::optional<Tensor> mu_rows,
                    std::optional<Tensor> weight_rows, std::optional<Tensor> z, std::optional<Tensor> x0,
                    std::optional<Tensor> seeds, std::optional<Tensor> ids, std::optional<bool> kappa_positive) {
  const Shape shape(pred);
  const Coefficients c = coefficients(shape, kappa, kappa_rows, lambda, lambda_rows, mu, mu_rows, weight, weight_rows, factor,
                                      over_kappa2, reduction, kappa_positive);
  const std::optional<NoiseSource> source = z ? std::nullopt : std::optional<NoiseSource>(std::in_place, name, seeds, ids, shape);
  const View grad_view(grad), above(grad_output);
  const Coefficient above_rows(0.0, reduction == kNone ? std::nullopt : std::optional<Tensor>(grad_output));
  with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
    using T = decltype(type);
    using Z = decltype(z_type);
    for_each_loss_chunk<T, Z>(
        shape, pred, z, x0, source ? &*source : nullptr, [&](const Chunk& chunk, int64_t, const auto& in, T* work, T* above_work) {
          T* target = grad_view.target(chunk.first, work);
          const T* every = reduction == kNone ? above.read(chunk.first, chunk.count, above_work) : nullptr;
          for_each_run(chunk, c.per_sample() || above_rows.per_sample(), [&](int64_t sample, int64_t at, int64_t n) {
            const T one = static_cast<T>(above_rows[sample]);
            loss_kernels_of<T, Z>().grad(n, shifted(in, at), c.row<T>(sample), every ? every + at : &one, every ? 1 : 0,
                                         target + at);
          });
          grad_view.written(chunk.first, chunk.count, target);
        });
  });
}

void scale_(Tensor grad, Tensor grad_output) {
  const Shape shape(grad);
  const Coefficient above(0.0, grad_output);
  if (!above.per_sample() && above[0] == 1.0) return;  // loss.backward(): nothing to do, and nothing is read
  const View view(grad);
  with_compute_type(grad, [&](auto type) {
    using T = decltype(type);
    for_each_chunk(shape, [&] {
      return [&, work = Buffer<T>()](const Chunk& chunk, int64_t) mutable {
        const T* in = view.read(chunk.first, chunk.count, work.data);
        T* target = view.target(chunk.first, work.data);
        for_each_run(chunk, above.per_sample(), [&](int64_t sample, int64_t at, int64_t n) {
          const T factor = static_cast<T>(above[sample]);
          for (int64_t i = at; i < at + n; ++i) target[i] = in[i] * factor;
        });
        view.written(chunk.first, chunk.count, target);
      };
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  m.impl("denoising_loss", TORCH_BOX(&pyebm::denoising_loss));
  m.impl("denoising_grad", TORCH_BOX(&pyebm::denoising_grad));
  m.impl("scale_", TORCH_BOX(&pyebm::scale_));
}
