// corrector_step: a Langevin step whose step size is factor |z|^2 / |g|^2, where |z| and |g| are
// the norms of each sample or the means of the batch's norms.
#include "../common/functions.h"
#include "batch_mean.h"
#include "langevin.h"
#include "squares.h"

namespace pyebm {
namespace {

template <class S, class Layout>
__global__ void __launch_bounds__(kThreads) norms_kernel(Compute<S>* partial,  // [2, samples, parts]
                                                         const S* score,       // [samples, ...]
                                                         NoiseName noise,      // of the step
                                                         Spans spans,          // the parts of the samples
                                                         Layout layout) {      // of the score
  using T = Compute<S>;
  const SpanPlace own(spans, layout);
  SampleNoise drawn = noise.of_all(own.sample);
  noise.make_own(own.sample, drawn);
  LaneSums<T> of_noise, of_score;
#pragma unroll 1
  for (uint32_t piece = own.piece; piece < own.end; piece += kTeam) {
    const Place at = layout.template place<4>(own.sample, piece);
    T z[4], g[4];
    draw(drawn, at, z);
    layout.template load<0>(score, at, g);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k >= at.count) continue;
      of_noise.add(k, z[k]);
      of_score.add(k, g[k]);
    }
  }
  const T z_squares = of_noise.total(), g_squares = of_score.total();
  if (own.first) {
    partial[own.span] = z_squares;
    partial[spans.count() + own.span] = g_squares;
  }
}

// |z| and |g| of each sample.
template <class T>
__global__ void __launch_bounds__(kThreads) root_kernel(double* norms,     // [2, samples]
                                                        const T* partial,  // [2, samples, parts]
                                                        Spans spans) {     // the parts of the samples
  const int64_t k = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (k < 2 * spans.samples) norms[k] = sqrt_rounded(sum_of_spans(partial, k, spans.parts));
}

template <class T>
__global__ void __launch_bounds__(kThreads) size_kernel(double* step_size,  // [samples]
                                                        const T* partial,   // [2, samples, parts]
                                                        double factor,
                                                        Spans spans) {  // the parts of the samples
  const int64_t b = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (b >= spans.samples) return;
  step_size[b] =
      sum_of_spans(partial, b, spans.parts) / sum_of_spans(partial + spans.count(), b, spans.parts) * factor;
}

__global__ void __launch_bounds__(kThreads) common_size_kernel(double* step_size,  // []
                                                               const double* z,    // []
                                                               const double* g,    // []
                                                               double factor) {
  if (threadIdx.x == 0) *step_size = *z * *z / (*g * *g) * factor;
}

void corrector_step(const args::CorrectorStep& args) {
  const Tensor &x = args.x, &score = args.score;
  const Call call("corrector_step", x);
  const int64_t samples = x.size(0);
  const NoiseName noise = call.noise(args.name, args.seeds, args.ids);
  if (!x.numel()) return;
  const int64_t count = args.together ? 1 : samples;
  const Tensor sizes = workspace<double>(x, count);
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    using T = Compute<S>;
    const Spans spans(samples, elements_of(x));
    const Tensor memory = workspace<T>(x, 2 * spans.count());
    T* partial = pointer<T>(memory);
    with_layout<S, false, 4>(call, {&score}, [&](const auto& layout) {
      call.launch(norms_kernel<S, std::decay_t<decltype(layout)>>, spans.blocks(), partial, pointer<S>(score),
                  noise, spans, layout);
    });
    if (args.together) {
      const Tensor norms = workspace<double>(x, 2 * samples);
      double* of_noise = pointer<double>(norms);
      call.launch(root_kernel<T>, ceil_div(2 * samples, kThreads), of_noise, partial, spans);
      const Tensor z = batch_mean(call, x, of_noise, samples),
                   g = batch_mean(call, x, of_noise + samples, samples);
      call.launch(common_size_kernel, 1, pointer<double>(sizes), pointer<double>(z), pointer<double>(g),
                  args.factor);
    } else {
      call.launch(size_kernel<T>, ceil_div(samples, kThreads), pointer<double>(sizes), partial, args.factor,
                  spans);
    }
  });
  const MaybeTensor none;
  take_langevin_step(call, {x, x, score, noise, none, args.mask, bounds_of<double>(args.low, args.high)},
                     {0.0, pointer<double>(sizes), args.together ? 0 : 1, true, count}, {1.0});
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) { PYEBM_IMPL(m, corrector_step); }
