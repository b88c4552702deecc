// leapfrog: HMC's kick and drift, p = p + eps s and x = x + eps p, in one pass.
#include "coefficients.h"

namespace pyebm {
namespace {

// The operands have one shape; without a score there is no kick, and p is not written.
template <class S>
struct LeapfrogOperands {
  S *x, *p;
  const S *score, *from_x, *from_p;
  uint32_t rounds;  // 1: a product is rounded to the dtype, as where one number serves all samples
};

template <class T>
struct MakeStepSize {
  RowSource step_size;
  PYEBM_HD T operator()(int64_t b) const { return static_cast<T>(step_size.at(b)); }
};

template <class S, class Layout>
__global__ void __launch_bounds__(kThreads) leapfrog_kernel(LeapfrogOperands<S> in,  // [samples, ...] each
                                                            SampleRows<Compute<S>> sizes,  // eps
                                                            Layout layout) {               // of the operands
  Place at;
  if (!find_place<S>(layout, at)) return;
  constexpr int kCount = kCountOf<S, Layout>;
  using T = Compute<S>;
  SampleNoise none;
  T eps, speed[kCount], other[kCount];
  sizes.find(at.sample, none, eps, false);
  const auto moved = [&](T from, T v) {
    const T by = eps * v;
    return rounded<S>(from + (in.rounds ? rounded<S>(by) : by));
  };
  layout.template load<4>(in.from_p, at, speed);
  if (in.score) {
    layout.template load<2>(in.score, at, other);
#pragma unroll
    for (int k = 0; k < kCount; ++k) speed[k] = moved(speed[k], other[k]);
    layout.template store<1>(in.p, at, speed);
  }
  layout.template load<3>(in.from_x, at, other);
#pragma unroll
  for (int k = 0; k < kCount; ++k) other[k] = moved(other[k], speed[k]);
  layout.template store<0>(in.x, at, other);
}

void leapfrog(const args::Leapfrog& args) {
  const Tensor &x = args.x, &p = args.p, &from_x = args.from_x ? *args.from_x : x,
               &from_p = args.from_p ? *args.from_p : p;
  const Call call("leapfrog", x);
  const RowSource eps = row_source(call, "step_size", args.step_size, args.step_size_rows, x.size(0));
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    using T = Compute<S>;
    MaybeTensor memory;
    const SampleRows<T> sizes({}, row_table<T>(call, x, {eps}, MakeStepSize<T>{eps}, memory));
    const LeapfrogOperands<S> operands{pointer<S>(x),      pointer<S>(p),      pointer<S>(args.score),
                                       pointer<S>(from_x), pointer<S>(from_p), !eps.data};
    with_layout<S>(call, {&x, args.score ? &p : nullptr, get(args.score), &from_x, &from_p},
                   [&](const auto& layout) {
                     call.launch(leapfrog_kernel<S, std::decay_t<decltype(layout)>>, layout.pieces.blocks(),
                                 operands, sizes, layout);
                   });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) { PYEBM_IMPL(m, leapfrog); }
