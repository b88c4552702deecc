// denoising_loss: f w_b sum_i r_i^2 with r = (kappa pred + lambda z) + mu x0, and in the same pass
// its gradient; denoising_grad: the gradient by itself; scale_: a kept gradient times the gradient
// from above.
#include <numeric>
#include <vector>

#include "../loops/losses.h"

namespace pyebm {
namespace {

// Sums the losses of n samples, whose first one begins a block, into one number a block, and writes
// them to `each` unless it is null. `partial` has one sum for each of a sample's parts; where
// `weighted`, these sums contain the elements' weights already.
template <class T, class Loss>
void sum_blocks(const Coefficients& c, const Shape& shape, bool weighted, int64_t sample, int64_t n,
                int64_t parts, const T* partial, Loss* each, double* blocks) {
  double weights[Coefficients::kSamplesAtOnce], losses[Coefficients::kSamplesAtOnce];
  T last[Coefficients::kSamplesAtOnce];
  std::fill(std::begin(weights), std::end(weights), 1.0);
  const bool same = weighted || !c.weights_change();
  if (same && !weighted) c.weights(sample, c.kSamplesAtOnce, shape, weights);
  for (int64_t done = 0; done < n; done += c.kSamplesAtOnce) {
    const int64_t some = std::min(c.kSamplesAtOnce, n - done);
    if (!same) c.weights(sample + done, some, shape, weights);
    const T* sums = partial + done * parts;
    for (int64_t i = 0; i < some && parts > 1; ++i)
      losses[i] = std::accumulate(sums + i * parts, sums + (i + 1) * parts, 0.0);
    if (some < c.kSamplesAtOnce) {
      if (parts == 1) std::copy(sums, sums + some, last), sums = last;
      std::fill(last + some, std::end(last), T(0));
      std::fill(losses + some, std::end(losses), 0.0);
      std::fill(weights + some, std::end(weights), 0.0);
    }
    *blocks++ = parts > 1 ? kernels_of<double>().sum_of_block(losses, weights, losses)
                          : kernels_of<T>().sum_of_block(sums, weights, losses);
    if (each) std::copy(losses, losses + some, each + sample + done);
  }
}

// Calls body with a float* or a double* to the loss, since a float32 prediction may have a float64
// loss.
template <class Body>
void with_loss_result(const Tensor& loss, Body body) {
  void* data = loss.numel() ? loss.data_ptr() : nullptr;
  if (loss.scalar_type() == ScalarType::Double) return body(static_cast<double*>(data));
  body(static_cast<float*>(data));
}

Coefficients coefficients(const Tensor& pred, const args::LossTerms& terms,
                          const MaybeTensor& from_above = std::nullopt) {
  const int64_t elements = pred.numel();
  const Runs<5> runs({{{terms.kappa, terms.kappa_rows, elements},
                       {terms.lam, terms.lam_rows, elements},
                       {terms.mu, terms.mu_rows, elements},
                       {terms.weight, terms.weight_rows, elements},
                       {1.0, from_above, elements}}});
  if (terms.over_kappa2 || terms.kappa_positive.value_or(false))
    runs[0].require("dsm_loss", "sigma", terms.over_kappa2);
  else
    runs[0].require_finite("denoising_loss", "kappa");
  runs[1].require_finite("denoising_loss", "lam");
  runs[2].require_finite("denoising_loss", "mu");
  runs[3].require_finite("denoising_loss", "weight");
  return {runs, terms.factor, terms.over_kappa2, divisor_of(terms.reduction, Shape(pred))};
}

// The source of the noise; nullopt where the caller gives the noise itself.
std::optional<NoiseSource> source_of(const args::LossTerms& terms, const Coefficients& c,
                                     const Shape& shape) {
  if (terms.z) return std::nullopt;
  return NoiseSource(terms.name, terms.seeds, terms.ids, shape).times(c.runs[1]);
}

void denoising_loss(const args::DenoisingLoss& args) {
  const Tensor& pred = args.pred;
  const MaybeTensor &z = args.terms.z, &x0 = args.terms.x0;
  const int64_t reduction = args.terms.reduction;
  Shape shape(pred);
  if (z) shape.without_noise();
  const Coefficients c = coefficients(pred, args.terms);
  const std::optional<NoiseSource> source = source_of(args.terms, c, shape);
  const View loss_view(args.loss), grad_view(args.grad);
  if (reduction == kNone) {
    with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
      using T = decltype(type);
      using Z = decltype(z_type);
      const auto& kernels = loss_kernels_of<T, Z>();
      for_each_loss_chunk<T, Z>(shape, 1, pred, z, x0, source ? &*source : nullptr, loss_view, [&] {
        return [&](const Chunk& chunk, const auto& in, auto& numbers, T* work, T*) {
          T* target = loss_view.target(chunk.first, work);
          if (c.by_parts(chunk)) {
            c.for_each_part(numbers, chunk, kWeights,
                            [&](int64_t at, int64_t rows, int64_t n, const auto& scaled) {
                              kernels.elementwise(rows, n, shifted(in, at), scaled, target + at);
                            });
          } else {
            kernels.terms_each(chunk.count, in, c.of_each<T>(numbers, chunk), true, target, nullptr);
          }
          loss_view.written(chunk.first, chunk.count, target);
        };
      });
    });
    return;
  }
  // A sample has one partial sum per chunk. The shape alone fixes these sums and the order in which
  // they are added. Small samples are taken in runs of chunks that hold whole blocks, whose partial
  // sums stay in a thread's cache; new memory for the sums of a whole batch costs more than they
  // do.
  const int64_t parts = std::max<int64_t>(shape.chunks_per_sample, 1), of_chunk = shape.samples_per_chunk;
  constexpr int64_t kBlock = Coefficients::kSamplesAtOnce;
  const int64_t span = of_chunk ? kBlock / std::gcd(kBlock, of_chunk) : 1;
  const bool weighted = shape.chunks && c.weighs_elements(shape);
  std::vector<double> blocks((shape.samples + kBlock - 1) / kBlock);
  with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
    using T = decltype(type);
    using Z = decltype(z_type);
    const auto& kernels = loss_kernels_of<T, Z>();
    with_loss_result(args.loss, [&](auto* result) {
      const auto reduce = [&](int64_t first, int64_t n, const T* partial) {
        sum_blocks(c, shape, weighted, first, n, parts, partial, reduction == kSample ? result : nullptr,
                   blocks.data() + first / kBlock);
      };
      std::vector<T> of_large_samples(of_chunk ? 0 : shape.samples * parts);
      for_each_loss_chunk<T, Z>(shape, span, pred, z, x0, source ? &*source : nullptr, grad_view, [&] {
        return [&, of_run = std::vector<T>(std::min(span * of_chunk, shape.samples)), first = int64_t{0}](
                   const Chunk& part, const auto& in, auto& numbers, T* grad_work, T* terms) mutable {
          T* target = grad_view ? grad_view.target(part.first, grad_work) : nullptr;
          if (of_chunk) first = part.sample / (span * of_chunk) * (span * of_chunk);
          T* partial = of_chunk ? of_run.data() : of_large_samples.data();
          T* sums = partial + (part.sample - first) * parts + part.element / kChunk;
          if (c.runs.by_rows(part)) {
            const Wanted wanted = target || weighted ? kWeightsAndGradients : kResiduals;
            c.for_each_part(
                numbers, part, wanted, [&](int64_t at, int64_t rows, int64_t n, const auto& scaled) {
                  kernels.sums(rows, n, shifted(in, at), scaled, sums, target ? target + at : nullptr);
                  for (int64_t row = 0; weighted && row < rows; ++row) sums[row] *= scaled.weight[row];
                  sums += rows;
                });
          } else {
            kernels.terms_each(part.count, in, c.of_each<T>(numbers, part), weighted, terms, target);
            kernels_of<T>().sums(part.rows, part.width, terms, sums);
          }
          if (target) grad_view.written(part.first, part.count, target);
          const int64_t end = part.sample + part.rows;
          if (of_chunk && (end - first == span * of_chunk || end == shape.samples))
            reduce(first, end - first, of_run.data());
        };
      });
      if (!of_chunk) reduce(0, shape.samples, of_large_samples.data());
      using Loss = std::remove_pointer_t<decltype(result)>;
      if (reduction != kSample)
        *result = static_cast<Loss>(std::accumulate(blocks.begin(), blocks.end(), 0.0) / c.divisor);
    });
  });
}

void denoising_grad(const args::DenoisingGrad& args) {
  const Tensor& pred = args.pred;
  const MaybeTensor &z = args.terms.z, &x0 = args.terms.x0;
  const int64_t reduction = args.terms.reduction;
  Shape shape(pred);
  if (z) shape.without_noise();
  const Coefficients c =
      coefficients(pred, args.terms, reduction == kNone ? std::nullopt : MaybeTensor(args.grad_output));
  const std::optional<NoiseSource> source = source_of(args.terms, c, shape);
  const View grad_view(args.grad), above(args.grad_output);
  with_loss_types(pred, z.has_value(), [&](auto type, auto z_type) {
    using T = decltype(type);
    using Z = decltype(z_type);
    const auto& kernels = loss_kernels_of<T, Z>();
    for_each_loss_chunk<T, Z>(shape, 1, pred, z, x0, source ? &*source : nullptr, grad_view, [&] {
      return [&](const Chunk& chunk, const auto& in, auto& numbers, T* work, T* above_work) {
        T* target = grad_view.target(chunk.first, work);
        const T* every = reduction == kNone ? above.read(chunk.first, chunk.count, above_work) : nullptr;
        if (c.by_parts(chunk)) {
          c.for_each_part(numbers, chunk, kWeightsAndGradients,
                          [&](int64_t at, int64_t rows, int64_t n, const auto& scaled) {
                            kernels.grad(rows, n, shifted(in, at), scaled, every ? every + at : scaled.above,
                                         every, target + at);
                          });
        } else {
          const ScaledLossRows<T> rows = c.of_each<T>(numbers, chunk);
          kernels.grad_each(chunk.count, in, rows, every ? every : rows.above, target);
        }
        grad_view.written(chunk.first, chunk.count, target);
      };
    });
  });
}

void scale_(const args::Scale& args) {
  const Tensor& grad = args.grad;
  Shape shape(grad);
  shape.without_noise();
  const Coefficient above(0.0, args.grad_output);
  if (!above.per_sample() && above[0] == 1.0) return;  // loss.backward(): nothing to do, and nothing is read
  const View view(grad);
  with_compute_type(grad, [&](auto type) {
    using T = decltype(type);
    for_each_chunk(shape, [&] {
      return [&, work = Buffer<T>()](const Chunk& chunk, int64_t) mutable {
        const T* in = view.read(chunk.first, chunk.count, work.data);
        T* target = view.target(chunk.first, work.data);
        with_rows<T>(chunk, above, [&](int64_t rows, int64_t width, const T* by) {
          kernels_of<T>().scaled(rows, width, in, by, target);
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
