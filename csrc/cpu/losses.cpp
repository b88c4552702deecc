// denoising_loss: f w_b sum_i r_i^2 with r = (kappa pred + lambda z) + mu x0, and in the same pass its gradient;
// denoising_grad: the gradient by itself; scale_: a kept gradient times what came from above.
#include <torch/csrc/stable/library.h>

#include <vector>

#include "runs.h"

namespace pyebm {
namespace {

enum Reduction : int64_t { kNone, kSample, kSum, kMean, kBatchMean };

double divisor_of(int64_t reduction, const Shape& shape) {
  const double samples = static_cast<double>(shape.samples), elements = static_cast<double>(shape.elements);
  return reduction == kMean ? samples * elements : reduction == kBatchMean ? samples : 1.0;
}

// With the gradient from above, where that is one number for all or for each sample.
template <class T>
struct Row : LossRow<T> {
  T above;
};
template <class T>
struct Rows : LossRows<T> {
  const T* above;
};

// kappa, lambda, mu, weight, and the gradient from above.
struct Coefficients {
  static constexpr int64_t kSamplesAtOnce = 64;
  Runs<5> runs;
  double factor;
  bool over_kappa2;
  double divisor;  // what the reduction divides the sum by

  template <class T, class Numbers>
  Row<T> row(Numbers& numbers, const Chunk& chunk) const {
    const auto of = numbers.of_all(runs, chunk, make<T>());
    return {{of[0], of[1], of[2], of[3], of[4]}, of[5]};
  }
  template <class T, class Numbers>
  Rows<T> rows(Numbers& numbers, const Chunk& chunk) const {
    const auto of = numbers.of_each(runs, chunk, make<T>());
    return {{of[0], of[1], of[2], of[3], of[4]}, of[5]};
  }

  // Does the weight of the squares change within samples? Then it is in the sums, and else before them.
  bool weighs_elements(const Shape& shape) const {
    const auto changes = [&](const Coefficient& one) { return one.run() && one.run() % shape.elements; };
    return changes(runs[3]) || (over_kappa2 && changes(runs[0]));
  }

  // Of n samples, where it does not.
  void weights(int64_t sample, int64_t n, const Shape& shape, double* out) const {
    double kappa[kSamplesAtOnce];
    runs[3].read(sample, n, shape.elements, out);
    if (over_kappa2) runs[0].read(sample, n, shape.elements, kappa);
    for (int64_t i = 0; i < n; ++i) out[i] = loss_weight(over_kappa2 ? kappa[i] : 1.0, out[i], factor, over_kappa2);
  }

 private:
  double weight(double kappa, double weight) const { return loss_weight(kappa, weight, factor, over_kappa2); }

  template <class T>
  auto make() const {
    return [this](int64_t n, const auto& values, T* const* made) {
      kernels_of<T>().loss_rows(n, values, factor, over_kappa2, 1.0 / divisor, made);
    };
  }
};

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

// Calls work(chunk, operands, numbers, out_buffer, extra_buffer) for every chunk.
template <class T, class Z, class Work>
void for_each_loss_chunk(const Shape& shape, const Tensor& pred, const std::optional<Tensor>& z, const std::optional<Tensor>& x0,
                         const NoiseSource* noise, Work work) {
  const View pred_view(pred), z_view(z), x0_view(x0);
  for_each_chunk(shape, [&] {
    return [&, z_source = LossNoise<T, Z>(z_view, noise), pred_work = Buffer<T>(), x0_work = Buffer<T>(), out_work = Buffer<T>(),
            extra_work = Buffer<T>(), numbers = RunNumbers<T, 5, 6>()](const Chunk& chunk, int64_t) mutable {
      const LossOperands<T, Z> operands{pred_view.read(chunk.first, chunk.count, pred_work.data), z_source.fill(chunk),
                                        x0_view ? x0_view.read(chunk.first, chunk.count, x0_work.data) : nullptr};
      work(chunk, operands, numbers, out_work.data, extra_work.data);
    };
  });
}

// Calls body(T(), Z()): the type of the arithmetic, and that of z as it lies in memory or comes from the generator.
template <class Body>
void with_loss_types(const Tensor& pred, bool own_noise, Body body) {
  if (pred.scalar_type() != ScalarType::Double) return body(float(), float());
  own_noise ? body(double(), double()) : body(double(), float());
}

// partial: for each sample as many sums as it has chunks, with the weights of its elements or, not `weighted`, without any.
void reduce(const Tensor& loss, int64_t reduction, const Coefficients& c, const Shape& shape, bool weighted,
            const std::vector<double>& partial) {
  const int64_t parts = shape.samples ? static_cast<int64_t>(partial.size()) / shape.samples : 0;
  const bool is_double = loss.scalar_type() == ScalarType::Double;
  const auto put = [&](int64_t index, double value) {
    if (is_double) {
      static_cast<double*>(loss.data_ptr())[index] = value;
    } else {
      static_cast<float*>(loss.data_ptr())[index] = static_cast<float>(value);
    }
  };
  double total = 0, weights[Coefficients::kSamplesAtOnce], samples[Coefficients::kSamplesAtOnce];
  std::fill(std::begin(weights), std::end(weights), 1.0);
  for (int64_t first = 0; first < shape.samples; first += c.kSamplesAtOnce) {
    const int64_t n = std::min(c.kSamplesAtOnce, shape.samples - first);
    if (!weighted) c.weights(first, n, shape, weights);
    const double* sums = partial.data() + first * parts;
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < parts; ++k) sum += sums[i * parts + k];
      samples[i] = weights[i] * sum;
    }
    for (int64_t i = 0; i < n; ++i) total += samples[i];
    for (int64_t i = 0; i < n && reduction == kSample; ++i) put(first + i, samples[i]);
  }
  if (reduction != kSample) put(0, total / c.divisor);
}

Coefficients coefficients(const Tensor& pred, double kappa, const std::optional<Tensor>& kappa_rows, double lambda,
                          const std::optional<Tensor>& lambda_rows, double mu, const std::optional<Tensor>& mu_rows, double weight,
                          const std::optional<Tensor>& weight_rows, double factor, bool over_kappa2, int64_t reduction,
                          std::optional<bool> kappa_positive, const std::optional<Tensor>& from_above = std::nullopt) {
  const char* op = "denoising_loss";
  const int64_t elements = pred.numel();
  const Runs<5> runs({{{op, "kappa", kappa, kappa_rows, elements},
                       {op, "lam", lambda, lambda_rows, elements},
                       {op, "mu", mu, mu_rows, elements},
                       {op, "weight", weight, weight_rows, elements},
                       {op, "grad_output", 1.0, from_above, elements}}});
  if (over_kappa2 || kappa_positive.value_or(false)) runs[0].require("dsm_loss", "sigma", over_kappa2);
  return {runs, factor, over_kappa2, divisor_of(reduction, Shape(pred))};
}

void denoising_loss(Tensor loss, std::optional<Tensor> grad, Tensor pred, double kappa, double lambda, double mu, double weight,
                    double factor, bool over_kappa2, int64_t reduction, std::optional<Tensor> name,
                    std::optional<Tensor> kappa_rows, std::optional<Tensor> lambda_rows, std::optional<Tensor> mu_rows,
                    std::optional<Tensor> weight_rows, std::optional<Tensor> z, std::optional<Tensor> x0,
                    std::optional<Tensor> seeds, std::optional<Tensor> ids, std::optional<bool> kappa_positive) {
  const Shape shape(pred);
  const Coefficients c = coefficients(pred, kappa, kappa_rows, lambda, lambda_rows, mu, mu_rows, weight, weight_rows, factor,
                                      over_kappa2, reduction, kappa_positive);
  const std::optional<NoiseSource> source = z ? std::nullopt : std::optional<NoiseSource>(std::in_place, name, seeds, ids, shape);
  const NoiseSource* noise = source ? &*source : nullptr;
  const View loss_view(loss), grad_view(grad);
  if (reduction == kNone) {
    with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
      using T = decltype(type);
      using Z = decltype(z_type);
      const auto& kernels = loss_kernels_of<T, Z>();
      for_each_loss_chunk<T, Z>(shape, pred, z, x0, noise, [&](const Chunk& chunk, const auto& in, auto& numbers, T* work, T*) {
        T* target = loss_view.target(chunk.first, work);
        if (c.runs.change_in(chunk)) {
          kernels.terms_each(chunk.count, in, c.template rows<T>(numbers, chunk), true, target, nullptr);
        } else {
          kernels.elementwise(chunk.count, in, c.template row<T>(numbers, chunk), target);
        }
        loss_view.written(chunk.first, chunk.count, target);
      });
    });
    return;
  }
  // One partial sum per chunk of a sample: fixed by the shape alone, and so is the order in which they are added.
  const int64_t parts = std::max<int64_t>(shape.chunks_per_sample, 1);
  std::vector<double> partial(shape.samples * parts, 0.0);
  const bool weighted = shape.chunks && c.weighs_elements(shape);
  with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
    using T = decltype(type);
    using Z = decltype(z_type);
    const auto& kernels = loss_kernels_of<T, Z>();
    for_each_loss_chunk<T, Z>(shape, pred, z, x0, noise, [&](const Chunk& chunk, const auto& in, auto& numbers, T* work, T* terms) {
      T* target = grad_view ? grad_view.target(chunk.first, work) : nullptr;
      double* sums = partial.data() + chunk.sample * parts + chunk.element / kChunk;
      if (chunk.rows > 1 || c.runs.change_in(chunk)) {
        T of_rows[kCalls];
        kernels.terms_each(chunk.count, in, c.template rows<T>(numbers, chunk), weighted, terms, target);
        kernels_of<T>().sums(chunk.rows, chunk.width, terms, of_rows);
        std::copy(of_rows, of_rows + chunk.rows, sums);
      } else {
        const LossRow<T> row = c.template row<T>(numbers, chunk);
        *sums = target ? kernels.sum_and_grad(chunk.count, in, row, target) : kernels.sum(chunk.count, in, row);
        if (weighted) *sums *= static_cast<double>(row.weight);
      }
      if (target) grad_view.written(chunk.first, chunk.count, target);
    });
  });
  reduce(loss, reduction, c, shape, weighted, partial);
}

void denoising_grad(Tensor grad, Tensor grad_output, Tensor pred, double kappa, double lambda, double mu, double weight,
                    double factor, bool over_kappa2, int64_t reduction, std::optional<Tensor> name,
                    std::optional<Tensor> kappa_rows, std::optional<Tensor> lambda_rows, std::optional<Tensor> mu_rows,
                    std::optional<Tensor> weight_rows, std::optional<Tensor> z, std::optional<Tensor> x0,
                    std::optional<Tensor> seeds, std::optional<Tensor> ids, std::optional<bool> kappa_positive) {
  const Shape shape(pred);
  const Coefficients c = coefficients(pred, kappa, kappa_rows, lambda, lambda_rows, mu, mu_rows, weight, weight_rows, factor,
                                      over_kappa2, reduction, kappa_positive,
                                      reduction == kNone ? std::nullopt : std::optional<Tensor>(grad_output));
  const std::optional<NoiseSource> source = z ? std::nullopt : std::optional<NoiseSource>(std::in_place, name, seeds, ids, shape);
  const View grad_view(grad), above(grad_output);
  with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
    using T = decltype(type);
    using Z = decltype(z_type);
    const auto& kernels = loss_kernels_of<T, Z>();
    for_each_loss_chunk<T, Z>(
        shape, pred, z, x0, source ? &*source : nullptr,
        [&](const Chunk& chunk, const auto& in, auto& numbers, T* work, T* above_work) {
          T* target = grad_view.target(chunk.first, work);
          const T* every = reduction == kNone ? above.read(chunk.first, chunk.count, above_work) : nullptr;
          if (c.runs.change_in(chunk)) {
            const Rows<T> rows = c.template rows<T>(numbers, chunk);
            kernels.grad_each(chunk.count, in, rows, every ? every : rows.above, target);
          } else {
            const Row<T> row = c.template row<T>(numbers, chunk);
            kernels.grad(chunk.count, in, row, every ? every : &row.above, every ? 1 : 0, target);
          }
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
