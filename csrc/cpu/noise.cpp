// normal_: the noise contract's normals into a tensor.
#include <torch/csrc/stable/library.h>

#include "samples.h"

namespace pyebm {
namespace {

void normal_(Tensor out, Tensor name, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  const Shape shape(out);
  const NoiseSource noise(name, seeds, ids, shape);
  const View view(out);
  with_compute_type(out, [&](auto type) {
    using T = decltype(type);
    for_each_chunk(shape, [&] {
      return [&, buffer = NoiseBuffer(), work = Buffer<T>()](const Chunk& chunk, int64_t) mutable {
        const float* z = noise.fill(shape, chunk, buffer);
        T* target = view.target(chunk.first, work.data);
        std::copy(z, z + chunk.count, target);  // float64 gets the same normals, widened
        view.written(chunk.first, chunk.count, target);
      };
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { m.impl("normal_", TORCH_BOX(&pyebm::normal_)); }
