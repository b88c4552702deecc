// normal_, uniform_: the noise contract's numbers into a tensor.
#include <torch/csrc/stable/library.h>

#include "samples.h"

namespace pyebm {
namespace {

void fill(const Tensor& out, const Tensor& name, const std::optional<Tensor>& seeds, const std::optional<Tensor>& ids,
          decltype(ChunkKernels::normals) draw) {
  const Shape shape(out);
  const NoiseSource noise(name, seeds, ids, shape);
  const View view(out);
  with_compute_type(out, [&](auto type) {
    using T = decltype(type);
    for_each_chunk(shape, [&] {
      return [&, buffer = NoiseBuffer(), work = Buffer<T>()](const Chunk& chunk, int64_t) mutable {
        const float* drawn = noise.fill(chunk, buffer, draw);
        T* target = view.target(chunk.first, work.data);
        std::copy(drawn, drawn + chunk.count, target);  // float64 gets the same numbers, widened
        view.written(chunk.first, chunk.count, target);
      };
    });
  });
}

void normal_(Tensor out, Tensor name, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  fill(out, name, seeds, ids, chunk_kernels().normals);
}

void uniform_(Tensor out, Tensor name, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  fill(out, name, seeds, ids, chunk_kernels().uniforms);
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  m.impl("normal_", TORCH_BOX(&pyebm::normal_));
  m.impl("uniform_", TORCH_BOX(&pyebm::uniform_));
}
