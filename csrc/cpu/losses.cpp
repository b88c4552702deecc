// denoising_loss: f w_b sum_i r_i^2 with r = (kappa pred + lambda z) + mu x0, and in the same pass its gradient;
// denoising_grad: the gradient by itself; scale_: a kept gradient times what came from above.
#include <numeric>
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

template <class T>
using LossNumbers = RunNumbers<T, 5, 6>;

// kappa, lambda, mu, weight, and the gradient from above.
struct Coefficients {
  static constexpr int64_t kSamplesAtOnce = 64;
  Runs<5> runs;
  double factor;
  bool over_kappa2;
  double divisor;  // what the reduction divides the sum by

  // Calls visit(at, n, row) for each run of the chunk.
  template <class T, class Visit>
  void for_each_run(LossNumbers<T>& numbers, const Chunk& chunk, Visit visit) const {
    numbers.for_each_run(runs, chunk, make<T>(), [&](int64_t at, int64_t n, const auto& of) {
      visit(at, n, Row<T>{{of[0], of[1], of[2], of[3], of[4]}, of[5]});
    });
  }
  template <class T>
  Rows<T> of_each(LossNumbers<T>& numbers, const Chunk& chunk) const {
    const auto of = numbers.of_each(runs, chunk, make<T>());
    return {{of[0], of[1], of[2], of[3], of[4]}, of[5]};
  }

  // Does the weight of the squares change within samples? Then it is in the sums, and else before them.
  bool weighs_elements(const Shape& shape) const {
    const auto changes = [&](const Coefficient& one) { return one.run() && one.run() % shape.elements; };
    return changes(runs[3]) || (over_kappa2 && changes(runs[0]));
  }

  // Is a sum of its own for each row of the chunk less than the laying out? Runs are then of whole rows.
  bool sums_rows(const Chunk& chunk) const {
    return chunk.rows == 1 ? !runs.change_in(chunk) : chunk.width >= runs.kLong && runs.length() % chunk.width == 0;
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

// Calls work(chunk, operands, numbers, out_buffer, extra_buffer) for the chunks [begin, end).
template <class T, class Z, class Work>
void for_each_loss_chunk(const Shape& shape, int64_t begin, int64_t end, const Tensor& pred, const std::optional<Tensor>& z,
                         const std::optional<Tensor>& x0, const NoiseSource* noise, Work work) {
  const View pred_view(pred), z_view(z), x0_view(x0);
  for_each_chunk(shape, begin, end, [&] {
    return [&, z_source = LossNoise<T, Z>(z_view, noise), pred_work = Buffer<T>(), x0_work = Buffer<T>(), out_work = Buffer<T>(),
            extra_work = Buffer<T>(), numbers = LossNumbers<T>()](const Chunk& chunk, int64_t) mutable {
      const LossOperands<T, Z> operands{pred_view.read(chunk.first, chunk.count, pred_work.data), z_source.fill(chunk),
                                        x0_view ? x0_view.read(chunk.first, chunk.count, x0_work.data) : nullptr};
      work(chunk, operands, numbers, out_work.data, extra_work.data);
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

// Adds the losses of n samples, one after another, to the total, and writes them to `each` unless it is null. partial: for each
// sample as many sums as it has parts, with the weights of its elements or, not `weighted`, without any.
template <class T, class Loss>
void add(const Coefficients& c, const Shape& shape, bool weighted, int64_t sample, int64_t n, int64_t parts, const T* partial,
         Loss* each, double& total) {
  double weights[Coefficients::kSamplesAtOnce], losses[Coefficients::kSamplesAtOnce];
  std::fill(std::begin(weights), std::end(weights), 1.0);
  double sum = total;
  for (int64_t done = 0; done < n; done += c.kSamplesAtOnce) {
    const int64_t some = std::min(c.kSamplesAtOnce, n - done);
    if (!weighted) c.weights(sample + done, some, shape, weights);
    const T* sums = partial + done * parts;
    if (parts == 1) {
      std::copy(sums, sums + some, losses);
    } else {
      for (int64_t i = 0; i < some; ++i) losses[i] = std::accumulate(sums + i * parts, sums + (i + 1) * parts, 0.0);
    }
    for (int64_t i = 0; i < some; ++i) losses[i] *= weights[i];
    if (each) std::copy(losses, losses + some, each + sample + done);
    for (int64_t i = 0; i < some; ++i) sum += losses[i];
  }
  total = sum;
}

// Calls body(a float* or double* to the loss): a float32 prediction may have a float64 loss.
template <class Body>
void with_loss_result(const Tensor& loss, Body body) {
  void* data = loss.numel() ? loss.data_ptr() : nullptr;
  if (loss.scalar_type() == ScalarType::Double) return body(static_cast<double*>(data));
  body(static_cast<float*>(data));
}

Coefficients coefficients(const Tensor& pred, const args::LossTerms& terms, const MaybeTensor& from_above = std::nullopt) {
  const int64_t elements = pred.numel();
  const Runs<5> runs({{{terms.kappa, terms.kappa_rows, elements},
                       {terms.lam, terms.lam_rows, elements},
                       {terms.mu, terms.mu_rows, elements},
                       {terms.weight, terms.weight_rows, elements},
                       {1.0, from_above, elements}}});
  if (terms.over_kappa2 || terms.kappa_positive.value_or(false)) runs[0].require("dsm_loss", "sigma", terms.over_kappa2);
  return {runs, terms.factor, terms.over_kappa2, divisor_of(terms.reduction, Shape(pred))};
}

// None where the caller gives the noise itself.
std::optional<NoiseSource> source_of(const args::LossTerms& terms, const Shape& shape) {
  if (terms.z) return std::nullopt;
  return std::optional<NoiseSource>(std::in_place, terms.name, terms.seeds, terms.ids, shape);
}

void denoising_loss(const args::DenoisingLoss& args) {
  const Tensor& pred = args.pred;
  const MaybeTensor &z = args.terms.z, &x0 = args.terms.x0;
  const int64_t reduction = args.terms.reduction;
  const Shape shape(pred);
  const Coefficients c = coefficients(pred, args.terms);
  const std::optional<NoiseSource> source = source_of(args.terms, shape);
  const View loss_view(args.loss), grad_view(args.grad);
  if (reduction == kNone) {
    with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
      using T = decltype(type);
      using Z = decltype(z_type);
      const auto& kernels = loss_kernels_of<T, Z>();
      for_each_loss_chunk<T, Z>(shape, 0, shape.chunks, pred, z, x0, source ? &*source : nullptr,
                                [&](const Chunk& chunk, const auto& in, auto& numbers, T* work, T*) {
                                  T* target = loss_view.target(chunk.first, work);
                                  if (c.runs.are_long(chunk)) {
                                    c.for_each_run<T>(numbers, chunk, [&](int64_t at, int64_t n, const Row<T>& row) {
                                      kernels.elementwise(n, shifted(in, at), row, target + at);
                                    });
                                  } else {
                                    kernels.terms_each(chunk.count, in, c.of_each<T>(numbers, chunk), true, target, nullptr);
                                  }
                                  loss_view.written(chunk.first, chunk.count, target);
                                });
    });
    return;
  }
  // One partial sum per chunk of a sample: fixed by the shape alone, and so is the order in which they are added. Of very many
  // samples some at a time, as memory that is new costs more than the sums.
  constexpr int64_t kSumsAtOnce = 1 << 18;
  const int64_t parts = std::max<int64_t>(shape.chunks_per_sample, 1);
  const int64_t span = shape.samples_per_chunk ? kSumsAtOnce / shape.samples_per_chunk : std::max<int64_t>(shape.chunks, 1);
  const int64_t samples = shape.samples_per_chunk ? span * shape.samples_per_chunk : shape.samples;
  const bool weighted = shape.chunks && c.weighs_elements(shape);
  with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
    using T = decltype(type);
    using Z = decltype(z_type);
    const auto& kernels = loss_kernels_of<T, Z>();
    std::vector<T> partial(std::min(samples, shape.samples) * parts);
    with_loss_result(args.loss, [&](auto* result) {
      using Loss = std::remove_pointer_t<decltype(result)>;
      double total = 0;
      for (int64_t first = 0, chunk = 0; first < shape.samples; first += samples, chunk += span) {
        const auto work = [&](const Chunk& part, const auto& in, auto& numbers, T* grad_work, T* terms) {
          T* target = grad_view ? grad_view.target(part.first, grad_work) : nullptr;
          T* sums = partial.data() + (part.sample - first) * parts + part.element / kChunk;
          if (c.sums_rows(part)) {
            c.for_each_run<T>(numbers, part, [&](int64_t at, int64_t n, const Row<T>& row) {
              for (const int64_t end = at + n; at < end; at += part.width, ++sums) {
                *sums = target ? kernels.sum_and_grad(part.width, shifted(in, at), row, target + at)
                               : kernels.sum(part.width, shifted(in, at), row);
                if (weighted) *sums *= row.weight;
              }
            });
          } else {
            kernels.terms_each(part.count, in, c.of_each<T>(numbers, part), weighted, terms, target);
            kernels_of<T>().sums(part.rows, part.width, terms, sums);
          }
          if (target) grad_view.written(part.first, part.count, target);
        };
        for_each_loss_chunk<T, Z>(shape, chunk, std::min(chunk + span, shape.chunks), pred, z, x0, source ? &*source : nullptr,
                                  work);
        add(c, shape, weighted, first, std::min(samples, shape.samples - first), parts, partial.data(),
            reduction == kSample ? result : nullptr, total);
      }
      if (reduction != kSample) *result = static_cast<Loss>(total / c.divisor);
    });
  });
}

void denoising_grad(const args::DenoisingGrad& args) {
  const Tensor& pred = args.pred;
  const MaybeTensor &z = args.terms.z, &x0 = args.terms.x0;
  const int64_t reduction = args.terms.reduction;
  const Shape shape(pred);
  const Coefficients c = coefficients(pred, args.terms, reduction == kNone ? std::nullopt : MaybeTensor(args.grad_output));
  const std::optional<NoiseSource> source = source_of(args.terms, shape);
  const View grad_view(args.grad), above(args.grad_output);
  with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
    using T = decltype(type);
    using Z = decltype(z_type);
    const auto& kernels = loss_kernels_of<T, Z>();
    for_each_loss_chunk<T, Z>(shape, 0, shape.chunks, pred, z, x0, source ? &*source : nullptr,
                              [&](const Chunk& chunk, const auto& in, auto& numbers, T* work, T* above_work) {
                                T* target = grad_view.target(chunk.first, work);
                                const T* every = reduction == kNone ? above.read(chunk.first, chunk.count, above_work) : nullptr;
                                if (c.runs.are_long(chunk)) {
                                  c.for_each_run<T>(numbers, chunk, [&](int64_t at, int64_t n, const Row<T>& row) {
                                    kernels.grad(n, shifted(in, at), row, every ? every + at : &row.above, every ? 1 : 0,
                                                 target + at);
                                  });
                                } else {
                                  const Rows<T> rows = c.of_each<T>(numbers, chunk);
                                  kernels.grad_each(chunk.count, in, rows, every ? every : rows.above, target);
                                }
                                grad_view.written(chunk.first, chunk.count, target);
                              });
  });
}

void scale_(const args::Scale& args) {
  const Tensor& grad = args.grad;
  const Shape shape(grad);
  const Coefficient above(0.0, args.grad_output);
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
  PYEBM_IMPL(m, denoising_loss);
  PYEBM_IMPL(m, denoising_grad);
  PYEBM_IMPL(m, scale_);
}
