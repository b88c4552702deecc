// normal_: the noise contract's normals into a tensor.
#include "rows.h"

namespace pyebm {
namespace {

struct NoRow {};

template <class S, class Layout>
__global__ void __launch_bounds__(kThreads) normal_kernel(S* out, Samples<NoRow> samples, Layout layout) {
  Place at;
  if (!find_place<S>(layout, at)) return;
  Compute<S> z[kCountOf<S, Layout>];
  SampleNoise noise;
  NoRow row;
  samples.find(at.sample, noise, row);
  draw(noise, at, z);
  layout.template store<0>(out, at, z);
}

void normal_(Tensor out, Tensor name, MaybeTensor seeds, MaybeTensor ids) {
  const Call call("normal_", out);
  const Samples<NoRow> samples(call.noise(name, seeds, ids, out.size(0)), {});
  with_dtype(call.op, out, [&](auto type) {
    using S = typename decltype(type)::type;
    with_layout<S>(call, {&out}, [&](const auto& layout) {
      call.launch(normal_kernel<S, std::decay_t<decltype(layout)>>, layout.pieces.blocks(), pointer<S>(out), samples, layout);
    });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) { m.impl("normal_", TORCH_BOX(&pyebm::normal_)); }
