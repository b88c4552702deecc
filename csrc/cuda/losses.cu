// denoising_loss: f w_b sum_i r_i^2 with r = (kappa pred + lambda z) + mu x0, and in the same pass
// its gradient; denoising_grad: the gradient by itself; scale_: a kept gradient times the gradient
// from above.
#include "losses.h"

namespace pyebm {
namespace {

// The residuals of a thread's elements; 0 beyond the sample's end.
template <class S, class Layout, class Known>
__device__ __forceinline__ void residuals(const LossOperands<S>& in, const Known& samples,
                                          const LossRow<Compute<S>>& row, const SampleNoise& noise,
                                          const Layout& layout, const Place& at,
                                          Compute<S> (&r)[kCountOf<S, Layout>]) {
  constexpr int kCount = kCountOf<S, Layout>;
  Compute<S> z[kCount];
  layout.template load<1>(in.pred, at, r);
  if (in.drawn)
    draw(noise, at, z);
  else
    layout.template load<2>(in.z, at, z);
  if (in.plain) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) r[k] = samples.row_of(row, at, k).kappa * r[k] + z[k];
    return;
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const LossRow<Compute<S>>& own = samples.row_of(row, at, k);
    r[k] = residual(r[k], z[k], own.kappa, own.lambda);
  }
  if (!in.x0) return;
  layout.template load<3>(in.x0, at, z);
#pragma unroll
  for (int k = 0; k < kCount; ++k) r[k] = r[k] + samples.row_of(row, at, k).mu * z[k];
}

// One partial sum of r^2 per team, and the gradient where `grad` is not null. partial: [samples,
// parts]; grad: pred's shape.
template <class S, class Layout, class Known>
__global__ void __launch_bounds__(kThreads,
                                  4)  // up to 128 registers: left alone, ptxas spills in float64 on sm_120
    sum_kernel(double* partial,       // [samples, parts]
               S* grad,               // [samples, ...] or null
               LossOperands<S> in,    // [samples, ...] each
               Known samples,         // noise and coefficients: SampleRows or Runs
               Layout layout,         // of the operands
               Teams teams,           // the threads that make one partial sum
               Divider parts) {       // teams of a sample
  constexpr int kCount = kCountOf<S, Layout>;
  using T = Compute<S>;
  const int lane = static_cast<int>(threadIdx.x) & ((1 << teams.log) - 1);
  const int64_t team = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) >> teams.log;
  const int64_t share = static_cast<int64_t>(parts.divide(static_cast<uint64_t>(team)));
  const int64_t pieces = static_cast<int64_t>(layout.pieces.per_sample.divisor);
  const bool real = share < layout.pieces.samples;
  // All threads take the same number of turns, so that no branch surrounds the work; a thread
  // without work has 0 elements.
  const auto sample = real ? static_cast<uint32_t>(share) : 0;
  SampleNoise noise;
  LossRow<T> row;
  samples.find(sample, noise, row, in.drawn);
  // A thread adds the same elements in the same order in every layout, though in smaller pieces.
  constexpr int kParts = kElements<S> / kCount;
  const int64_t first = (((team - share * teams.parts) * kSteps << teams.log) + lane) * kParts;
  const int64_t rest = real ? pieces - first : 0;
  const int left = static_cast<int>(rest < 1 << 30 ? rest : 1 << 30);
  T sum = 0;
#pragma unroll 1
  for (int turn = 0; turn < teams.steps * kParts; ++turn) {
    const int ahead = (turn / kParts * kParts << teams.log) + turn % kParts;
    Place at =
        layout.template place<kCount>(sample, static_cast<uint32_t>(first) + static_cast<uint32_t>(ahead));
    if (ahead >= left) at.count = 0, at.wide = false;
    T r[kCount];
    residuals(in, samples, row, noise, layout, at, r);
    if constexpr (Known::kFine) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        if (k < at.count) sum += samples.row_of(row, at, k).weight * (r[k] * r[k]);
      }
    } else if (at.wide) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) sum += r[k] * r[k];
    } else {
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        if (k < at.count) sum += r[k] * r[k];
      }
    }
#pragma unroll
    for (int k = 0; k < kCount; ++k) r[k] = samples.row_of(row, at, k).grad * r[k];
    if (grad) layout.template store<0>(grad, at, r);
  }
  sum = team_sum(sum, teams.log);
  if (real && lane == 0) partial[team] = static_cast<double>(sum);
}

// The loss of each element, in pred's shape.
template <class S, class Layout, class Known>
__global__ void __launch_bounds__(kThreads)
    elementwise_kernel(Compute<S>* loss,    // [samples, ...]
                       LossOperands<S> in,  // [samples, ...] each
                       Known samples,       // noise and coefficients: SampleRows or Runs
                       Layout layout) {     // of the operands
  Place at;
  if (!find_place<S>(layout, at)) return;
  SampleNoise noise;
  LossRow<Compute<S>> row;
  samples.find(at.sample, noise, row, in.drawn);
  Compute<S> r[kCountOf<S, Layout>];
  residuals(in, samples, row, noise, layout, at, r);
#pragma unroll
  for (int k = 0; k < kCountOf<S, Layout>; ++k) r[k] = samples.row_of(row, at, k).weight * (r[k] * r[k]);
  layout.template store<0>(loss, at, r);
}

// The loss's gradient times the gradient from above, in pred's shape.
template <class S, class Layout, class Known>
__global__ void __launch_bounds__(kThreads)
    grad_kernel(S* grad,                  // [samples, ...]
                Above<Compute<S>> above,  // the gradient from above: [], [samples] or [samples, ...]
                LossOperands<S> in,       // [samples, ...] each
                Known samples,            // noise and coefficients: SampleRows or Runs
                Layout layout) {          // of the operands
  Place at;
  if (!find_place<S>(layout, at)) return;
  constexpr int kCount = kCountOf<S, Layout>;
  using T = Compute<S>;
  T r[kCount], factor[kCount];
  if (above.elementwise) {
    layout.template load<4>(above.data, at, factor);
  } else {
    const T one = above.data[static_cast<int64_t>(at.sample) * above.stride];
#pragma unroll
    for (int k = 0; k < kCount; ++k) factor[k] = one;
  }
  SampleNoise noise;
  LossRow<T> row;
  samples.find(at.sample, noise, row, in.drawn);
  residuals(in, samples, row, noise, layout, at, r);
#pragma unroll
  for (int k = 0; k < kCount; ++k) r[k] = (samples.row_of(row, at, k).grad * r[k]) * factor[k];
  layout.template store<0>(grad, at, r);
}

// grad, in place, times the gradient from above: one number, or one per sample.
template <class S, class Layout>
__global__ void __launch_bounds__(kThreads)
    scale_kernel(S* grad,                  // [samples, ...], in place
                 Above<Compute<S>> above,  // the gradient from above: [] or [samples]
                 Layout layout) {          // of grad
  Place at;
  if (!find_place<S>(layout, at)) return;
  const Compute<S> factor = above.data[static_cast<int64_t>(at.sample) * above.stride];
  if (factor == Compute<S>(1)) return;  // as from loss.backward(): nothing is read or written
  Compute<S> value[kCountOf<S, Layout>];
  layout.template load<0>(grad, at, value);
#pragma unroll
  for (int k = 0; k < kCountOf<S, Layout>; ++k) value[k] *= factor;
  layout.template store<0>(grad, at, value);
}

NoiseName noise_of(const Call& call, const args::LossTerms& terms) {
  return terms.z ? NoiseName{} : call.noise(terms.name, terms.seeds, terms.ids);
}

// The term kappa_positive is ignored here: to check it, the host would wait for the device.
void denoising_loss(const args::DenoisingLoss& args) {
  const Tensor &loss = args.loss, &pred = args.pred;
  const MaybeTensor &grad = args.grad, &z = args.terms.z, &x0 = args.terms.x0;
  const int64_t reduction = args.terms.reduction;
  const Call call("denoising_loss", pred);
  const LossCoefficients c(call, pred, args.terms);
  call.expect("loss", loss,
              pred.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float);
  const NoiseName noise = noise_of(call, args.terms);
  with_dtype(call.op, pred, [&](auto type) {
    using S = typename decltype(type)::type;
    using T = Compute<S>;
    const LossOperands<S> operands = c.operands<S>(pred, z, x0);
    c.with<T>(call, pred, noise, [&](const auto& samples) {
      using Known = std::decay_t<decltype(samples)>;
      if (reduction == kNone) {
        with_layout<S, Known::kFine>(call, {&loss, &pred, get(z), get(x0)}, [&](const auto& layout) {
          call.launch(elementwise_kernel<S, std::decay_t<decltype(layout)>, Known>, layout.pieces.blocks(),
                      pointer<T>(loss), operands, samples, layout);
        });
        return;
      }
      MaybeTensor partial;
      int64_t parts = 1;
      const auto launch = [&](const auto& layout) {
        using Layout = std::decay_t<decltype(layout)>;
        const Teams teams(ceil_div(layout.pieces.elements, kElements<S>));
        parts = teams.parts;
        partial = workspace<double>(pred, layout.pieces.samples * parts);
        call.launch(sum_kernel<S, Layout, Known>, teams.blocks(layout.pieces.samples),
                    pointer<double>(partial), pointer<S>(grad), operands, samples, layout, teams,
                    Divider(parts));
      };
      if (pred.numel()) {
        with_layout<S, Known::kFine>(call, {grad ? &*grad : &pred, &pred, get(z), get(x0)}, launch);
      } else if constexpr (!Known::kFine) {  // samples without elements: sums of nothing
        launch(RowLayout<kGranule<S>>{Pieces(pred.size(0), 0, 1), 0, 0, 0, 1});
      }
      finish<T>(call, loss, reduction, c, *partial, pred.size(0), parts);
    });
  });
}

void denoising_grad(const args::DenoisingGrad& args) {
  const Tensor &grad = args.grad, &grad_output = args.grad_output, &pred = args.pred;
  const MaybeTensor &z = args.terms.z, &x0 = args.terms.x0;
  const int64_t reduction = args.terms.reduction;
  const Call call("denoising_grad", pred);
  const LossCoefficients c(call, pred, args.terms);
  const NoiseName noise = noise_of(call, args.terms);
  with_dtype(call.op, pred, [&](auto type) {
    using S = typename decltype(type)::type;
    using T = Compute<S>;
    const Above<T> above = from_above<T>(call, grad_output, reduction == kNone);
    const LossOperands<S> operands = c.operands<S>(pred, z, x0);
    const Operands tensors = {&grad, &pred, get(z), get(x0), above.elementwise ? &grad_output : nullptr};
    c.with<T>(call, pred, noise, [&](const auto& samples) {
      using Known = std::decay_t<decltype(samples)>;
      with_layout<S, Known::kFine>(call, tensors, [&](const auto& layout) {
        call.launch(grad_kernel<S, std::decay_t<decltype(layout)>, Known>, layout.pieces.blocks(),
                    pointer<S>(grad), above, operands, samples, layout);
      });
    });
  });
}

void scale_(const args::Scale& args) {
  const Tensor &grad = args.grad, &grad_output = args.grad_output;
  const Call call("scale_", grad);
  with_dtype(call.op, grad, [&](auto type) {
    using S = typename decltype(type)::type;
    const Above<Compute<S>> above = from_above<Compute<S>>(call, grad_output, false);
    with_layout<S>(call, {&grad}, [&](const auto& layout) {
      call.launch(scale_kernel<S, std::decay_t<decltype(layout)>>, layout.pieces.blocks(), pointer<S>(grad),
                  above, layout);
    });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) {
  PYEBM_IMPL(m, denoising_loss);
  PYEBM_IMPL(m, denoising_grad);
  PYEBM_IMPL(m, scale_);
}
