// target_score: the score of a closed-form target; target_energy: its energy too.
#include "dense.h"

namespace pyebm {
namespace {

// A thread scores its elements; with `coupled` they are a whole sample of at most four.
template <class S, class Layout>
__global__ void __launch_bounds__(kThreads)
    score_kernel(S* out,                            // [samples, ...]
                 const S* x,                        // [samples, ...]
                 TargetNumbers<Compute<S>> target,  // its params
                 uint32_t coupled,                  // 1: a thread has a whole sample, of at most four
                 Layout layout) {                   // of both
  Place at;
  if (!find_place<S>(layout, at)) return;
  Compute<S> state[kCountOf<S, Layout>], score[kCountOf<S, Layout>];
  layout.template load<1>(x, at, state);
  score_elements(target, ElementTarget<Compute<S>>(target), coupled, at, state, score);
  layout.template store<0>(out, at, score);
}

// A warp scores one sample.
template <class S>
__global__ void __launch_bounds__(kThreads)
    coupled_score_kernel(S* out,                        // [samples, elements]
                         const S* x,                    // [samples, elements]
                         TargetNumbers<Compute<S>> in,  // the target's params
                         Strided layout) {              // of both
  const auto sample = static_cast<uint32_t>((static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32);
  if (sample >= layout.pieces.samples) return;
  const auto get = [&](int64_t i) { return widened(x[layout.offset(1, sample, i)]); };
  SampleTarget<Compute<S>> target(in);
  target.prepare(get, WarpSum<Compute<S>>{in.elements});
  for (int64_t i = threadIdx.x % 32; i < in.elements; i += 32) {
    out[layout.offset(0, sample, i)] = narrowed<S>(target.score(i, get));
  }
}

// A warp adds up a part of one sample's energy: a span of kEnergySpan elements or, of a coupled
// target, the whole sample.
template <class S, bool kCoupled>
__global__ void __launch_bounds__(kThreads, 4)   // up to 128 registers: left alone, ptxas spills in float64
    energy_kernel(double* partial,               // [samples, parts]
                  const S* x,                    // [samples, elements]
                  TargetNumbers<Compute<S>> in,  // the target's params
                  Divider parts,                 // of a sample
                  Strided layout) {              // of x
  using T = Compute<S>;
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  const auto sample = static_cast<int64_t>(parts.divide(static_cast<uint64_t>(warp)));
  if (sample >= layout.pieces.samples) return;
  const auto get = [&](int64_t i) { return widened(x[layout.offset(0, static_cast<uint32_t>(sample), i)]); };
  const auto span = [&](int64_t first, const auto& term) {
    const int64_t left = in.elements - first;
    const WarpSum<T> sum{left < kEnergySpan ? left : kEnergySpan};
    return static_cast<double>(sum([&](int64_t i) { return term(first + i); }));
  };
  double energy;
  if constexpr (kCoupled) {
    energy = SampleTarget<T>(in).energy(get, WarpSum<T>{in.elements}, [&](const auto& term) {
      double sum = 0;
      for (int64_t first = 0; first < in.elements; first += kEnergySpan) sum += span(first, term);
      return sum;
    });
  } else {
    const ElementTarget<T> target(in);
    const int64_t part = warp - sample * static_cast<int64_t>(parts.divisor);
    energy = span(part * kEnergySpan, [&](int64_t i) { return target.energy(i, get(i)); });
  }
  if (threadIdx.x % 32 == 0) partial[warp] = energy;
}

template <class Energy>
__global__ void __launch_bounds__(kThreads)
    add_energy_kernel(Energy* energy,         // [samples]
                      const double* partial,  // [samples, parts]
                      double constant, int64_t samples, int64_t parts) {
  const int64_t b = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (b >= samples) return;
  double sum = 0;
  for (int64_t k = 0; k < parts; ++k) sum += partial[b * parts + k];
  energy[b] = static_cast<Energy>(sum + constant);
}

void make_score(const Call& call, const Tensor& out, const Tensor& x, int64_t target, const Tensor& params) {
  if (x.numel() == 0) return;
  if (is_dense(target)) return dense_score(call, out, x, target, params);
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    const TargetNumbers<Compute<S>> in = checked_target<Compute<S>>(call, target, params, x);
    if (in.is_coupled() && in.elements > 4) {
      const Strided layout = strided_layout(call.op, Pieces(x.size(0), in.elements, 4), {&out, &x});
      call.launch(coupled_score_kernel<S>, ceil_div(x.size(0) * 32, kThreads), pointer<S>(out), pointer<S>(x),
                  in, layout);
      return;
    }
    with_layout<S>(call, {&out, &x}, [&](const auto& layout) {
      call.launch(score_kernel<S, std::decay_t<decltype(layout)>>, layout.pieces.blocks(), pointer<S>(out),
                  pointer<S>(x), in, in.is_coupled(), layout);
    });
  });
}

void target_score(const args::TargetScore& args) {
  const Call call("target_score", args.x);
  make_score(call, args.out, args.x, args.target, args.params);
}

void target_energy(const args::TargetEnergy& args) {
  const Tensor& x = args.x;
  const Call call("target_energy", x);
  if (is_dense(args.target))
    fail(call.op, ": the target ", kTargetFacts[args.target].name, " has no kernel of its energy on a GPU");
  make_score(call, args.score, x, args.target, args.params);
  const int64_t samples = x.size(0);
  MaybeTensor partial;
  int64_t parts = 0;  // samples without elements: sums of nothing
  if (x.numel()) {
    with_dtype(call.op, x, [&](auto type) {
      using S = typename decltype(type)::type;
      const TargetNumbers<Compute<S>> in = checked_target<Compute<S>>(call, args.target, args.params, x);
      parts = in.is_coupled() ? 1 : ceil_div(in.elements, kEnergySpan);
      partial = workspace<double>(x, samples * parts);
      const Strided layout = strided_layout(call.op, Pieces(samples, in.elements, 4), {&x});
      const auto launch = [&](auto kernel) {
        call.launch(kernel, ceil_div(samples * parts * 32, kThreads), pointer<double>(partial), pointer<S>(x),
                    in, Divider(parts), layout);
      };
      in.is_coupled() ? launch(energy_kernel<S, true>) : launch(energy_kernel<S, false>);
    });
  }
  const auto add = [&](auto* energy) {
    using Energy = std::remove_pointer_t<decltype(energy)>;
    call.launch(add_energy_kernel<Energy>, ceil_div(samples, kThreads), energy, pointer<double>(partial),
                args.constant, samples, parts);
  };
  if (args.energy.scalar_type() == ScalarType::Double) return add(pointer<double>(args.energy));
  add(pointer<float>(args.energy));
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) {
  PYEBM_IMPL(m, target_score);
  PYEBM_IMPL(m, target_energy);
}

// Lets Python compare its table of targets with the one that the kernels were built with (_ops.py).
extern "C" __attribute__((visibility("default"))) const char* pyebm_targets() {
  return pyebm::targets_text();
}
