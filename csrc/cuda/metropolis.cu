// metropolis: each sample takes its proposal or stays, and its score, energy and count follow;
// dual_averaging: the next step sizes.
#include "../common/losses.h"
#include "../common/metropolis.h"
#include "batch_mean.h"
#include "coefficients.h"
#include "squares.h"

namespace pyebm {
namespace {

// The operands of the sums of squares that the proposal's density comes down to. MALA takes
// |y - x - eta s(x)|^2 and |x - y - eta s(y)|^2, where x is `before` and y `after`. HMC takes
// |p - eps/2 s(x)|^2 and |p' + eps/2 s(y)|^2, from the momenta half a step before p, `before`, and
// behind p', `after`.
template <class S>
struct Proposals {
  const S *score, *proposal_score, *before, *after;
  uint32_t is_mala;
};

template <class S, class Layout>
__global__ void __launch_bounds__(kThreads) squares_kernel(Compute<S>* partial,  // [2, samples, parts]
                                                           Proposals<S> in,      // [samples, ...] each
                                                           RowSource step,       // eta, or eps/2
                                                           Spans spans,          // the parts of the samples
                                                           Layout layout) {      // of the operands
  using T = Compute<S>;
  const SpanPlace own(spans, layout);
  const auto kappa = static_cast<T>(step.at(own.sample));
  LaneSums<T> first, second;
#pragma unroll 1
  for (uint32_t piece = own.piece; piece < own.end; piece += kTeam) {
    const Place at = layout.template place<4>(own.sample, piece);
    T score[4], proposal_score[4], before[4], after[4];
    layout.template load<0>(in.score, at, score);
    layout.template load<1>(in.proposal_score, at, proposal_score);
    layout.template load<2>(in.before, at, before);
    layout.template load<3>(in.after, at, after);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k >= at.count) continue;
      if (in.is_mala) {
        first.add(k, residual(score[k], before[k], after[k], -kappa, T(-1), T(1)));
        second.add(k, residual(proposal_score[k], before[k], after[k], kappa, T(-1), T(1)));
      } else {
        first.add(k, residual(score[k], before[k], -kappa, T(1)));
        second.add(k, residual(proposal_score[k], after[k], kappa, T(1)));
      }
    }
  }
  const T sum = first.total(), other = second.total();
  if (own.first) {
    partial[own.span] = sum;
    partial[spans.count() + own.span] = other;
  }
}

// The samples' numbers: [samples] each.
struct Decisions {
  double *energy, *log_alpha;
  int64_t* accepted;
  bool* accept;
  RowSource proposed, scale;  // the proposals' energies, and the divisor of the squares
  double temperature;
};

template <class T>
__global__ void __launch_bounds__(kThreads) decide_kernel(Decisions in,
                                                          const T* partial,  // [2, samples, parts]
                                                          NoiseName noise,   // of the uniforms
                                                          Spans spans) {     // the parts of the samples
  const int64_t b = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (b >= spans.samples) return;
  const double squares =
      sum_of_spans(partial, b, spans.parts) - sum_of_spans(partial + spans.count(), b, spans.parts);
  const auto sample = static_cast<uint32_t>(b);
  SampleNoise own = noise.of_all(sample);
  noise.make_own(sample, own);
  float uniforms[4];
  draw_uniforms(own, Place{sample, 0, 0, 1, false}, uniforms);
  const double proposed = in.proposed.at(b);
  const double alpha = log_acceptance(in.energy[b], proposed, in.temperature, squares, in.scale.at(b));
  const bool accept = accepts(alpha, uniforms[0]);
  in.log_alpha[b] = alpha;
  in.accept[b] = accept;
  if (!accept) return;
  ++in.accepted[b];
  in.energy[b] = proposed;
}

template <class S, class Layout>
__global__ void __launch_bounds__(kThreads) take_kernel(S* x,                     // [samples, ...]
                                                        S* score,                 // [samples, ...]
                                                        const S* proposal,        // [samples, ...]
                                                        const S* proposal_score,  // [samples, ...]
                                                        const bool* accept,       // [samples]
                                                        Layout layout) {          // of the first four
  Place at;
  if (!find_place<S>(layout, at) || !accept[at.sample]) return;
  Compute<S> values[kCountOf<S, Layout>];
  layout.template load<2>(proposal, at, values);
  layout.template store<0>(x, at, values);
  layout.template load<3>(proposal_score, at, values);
  layout.template store<1>(score, at, values);
}

void metropolis(const args::Metropolis& args) {
  const Tensor& x = args.x;
  const Call call("metropolis", x);
  const int64_t samples = x.size(0);
  const NoiseName noise = call.noise(args.name, args.seeds, args.ids);
  const RowSource step = row_source(call, "step", args.step, args.step_rows, samples);
  const Decisions decisions{pointer<double>(args.energy),
                            pointer<double>(args.log_alpha),
                            pointer<int64_t>(args.accepted),
                            pointer<bool>(args.accept),
                            row_source(call, "proposal_energy", 0.0, args.proposal_energy, samples),
                            row_source(call, "scale", args.scale, args.scale_rows, samples),
                            args.temperature};
  const Tensor &before = args.first ? *args.first : x, &after = args.last ? *args.last : args.proposal;
  if (!samples) return;
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    using T = Compute<S>;
    const Spans spans(samples, elements_of(x));
    const Tensor memory = workspace<T>(x, 2 * spans.count());
    T* partial = pointer<T>(memory);
    const auto sum = [&](const auto& layout) {
      call.launch(squares_kernel<S, std::decay_t<decltype(layout)>>, spans.blocks(), partial,
                  Proposals<S>{pointer<S>(args.score), pointer<S>(args.proposal_score), pointer<S>(before),
                               pointer<S>(after), !args.first},
                  step, spans, layout);
    };
    if (x.numel()) {
      with_layout<S, false, 4>(call, {&args.score, &args.proposal_score, &before, &after}, sum);
    } else {  // samples without elements: sums of nothing
      sum(RowLayout<kGranule<S>>{Pieces(samples, 0, 4), 0, 0, 0, 1});
    }
    call.launch(decide_kernel<T>, ceil_div(samples, kThreads), decisions, partial, noise, spans);
    with_layout<S>(call, {&x, &args.score, &args.proposal, &args.proposal_score}, [&](const auto& layout) {
      call.launch(take_kernel<S, std::decay_t<decltype(layout)>>, layout.pieces.blocks(), pointer<S>(x),
                  pointer<S>(args.score), pointer<S>(args.proposal), pointer<S>(args.proposal_score),
                  pointer<bool>(args.accept), layout);
    });
  });
}

__global__ void __launch_bounds__(kThreads) probability_kernel(double* out,              // [samples]
                                                               const double* log_alpha,  // [samples]
                                                               int64_t samples) {
  const int64_t b = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (b < samples) out[b] = probability(log_alpha[b]);
}

// The chains' numbers: [samples] each.
struct Averages {
  double *step_size, *log_average, *gap;
  const double *log_alpha, *middle;
};

__global__ void __launch_bounds__(kThreads)
    average_kernel(Averages in,
                   const double* steps,       // [], those taken so far
                   const double* acceptance,  // [], of all chains together, or null: each has its own
                   double warmup, double target, int64_t samples) {
  const int64_t b = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const double m = *steps + 1.0;
  if (b >= samples || m > warmup) return;
  const double own = acceptance ? *acceptance : probability(in.log_alpha[b]);
  double gap = in.gap[b], average = in.log_average[b];
  const double log_step = DualAveraging(m).learn(own, target, in.middle[b], gap, average);
  in.gap[b] = gap;
  in.log_average[b] = average;
  in.step_size[b] = exponential(m < warmup ? log_step : average);
}

__global__ void __launch_bounds__(kThreads) count_kernel(double* steps) {  // []
  if (threadIdx.x == 0) *steps += 1.0;
}

void dual_averaging(const args::DualAveraging& args) {
  const Call call("dual_averaging", args.step_size);
  const int64_t samples = args.step_size.numel();
  const auto* log_alpha = pointer<double>(args.log_alpha);
  MaybeTensor acceptance;
  if (args.together && samples) {
    const Tensor each = workspace<double>(args.step_size, samples);
    call.launch(probability_kernel, ceil_div(samples, kThreads), pointer<double>(each), log_alpha, samples);
    acceptance = batch_mean(call, args.step_size, pointer<double>(each), samples);
  }
  call.launch(average_kernel, ceil_div(samples, kThreads),
              Averages{pointer<double>(args.step_size), pointer<double>(args.log_average),
                       pointer<double>(args.gap), log_alpha, pointer<double>(args.middle)},
              pointer<double>(args.steps), pointer<double>(acceptance), static_cast<double>(args.warmup),
              args.target, samples);
  call.launch(count_kernel, 1, pointer<double>(args.steps));
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) {
  PYEBM_IMPL(m, metropolis);
  PYEBM_IMPL(m, dual_averaging);
}
