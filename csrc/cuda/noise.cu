// normal_ and uniform_ fill a tensor with the noise contract's numbers.
#include "coefficients.h"

namespace pyebm {
namespace {

struct NoRow {};

template <class S, class Layout, bool kUniform>
__global__ void __launch_bounds__(kThreads)
    noise_kernel(S* out,                     // [samples, ...]
                 SampleRows<NoRow> samples,  // the noise of each sample
                 Layout layout) {            // of out
  Place at;
  if (!find_place<S>(layout, at)) return;
  Compute<S> value[kCountOf<S, Layout>];
  SampleNoise noise;
  NoRow row;
  samples.find(at.sample, noise, row);
  if constexpr (kUniform)
    draw_uniforms(noise, at, value);
  else
    draw(noise, at, value);
  layout.template store<0>(out, at, value);
}

template <bool kUniform>
void fill(const char* op, const args::Fill& args) {
  const Tensor& out = args.out;
  const Call call(op, out);
  const SampleRows<NoRow> samples(call.noise(args.name, args.seeds, args.ids), {});
  with_dtype(call.op, out, [&](auto type) {
    using S = typename decltype(type)::type;
    with_layout<S>(call, {&out}, [&](const auto& layout) {
      using Layout = std::decay_t<decltype(layout)>;
      call.launch(noise_kernel<S, Layout, kUniform>, layout.pieces.blocks(), pointer<S>(out), samples,
                  layout);
    });
  });
}

void normal_(const args::Fill& args) { fill<false>("normal_", args); }
void uniform_(const args::Fill& args) { fill<true>("uniform_", args); }

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) {
  PYEBM_IMPL(m, normal_);
  PYEBM_IMPL(m, uniform_);
}
