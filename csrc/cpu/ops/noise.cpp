// normal_ and uniform_ fill a tensor with the noise contract's numbers.
#include "../loops/chunk_noise.h"

namespace pyebm {
namespace {

void fill(const args::Fill& args, decltype(ChunkKernels::normals) draw) {
  const Shape shape(args.out);
  const NoiseSource noise(args.name, args.seeds, args.ids, shape);
  const View view(args.out);
  with_compute_type(args.out, [&](auto type) {
    using T = decltype(type);
    for_each_chunk(shape, [&] {
      return [&, buffer = NoiseBuffer(), work = Buffer<T>()](const Chunk& chunk, int64_t) mutable {
        buffer.will_need(chunk, {}, {&view});
        T* target = view.target(chunk.first, work.data);
        bool filled = false;
        if constexpr (std::is_same_v<T, float>) filled = noise.fill_in_place(chunk, buffer, draw, target);
        if (!filled) {
          const float* drawn = noise.fill(chunk, buffer, draw);
          std::copy(drawn, drawn + chunk.count, target);  // float64 gets the same numbers, widened
        }
        view.written(chunk.first, chunk.count, target);
      };
    });
  });
}

void normal_(const args::Fill& args) { fill(args, chunk_kernels().normals); }
void uniform_(const args::Fill& args) { fill(args, chunk_kernels().uniforms); }

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  PYEBM_IMPL(m, normal_);
  PYEBM_IMPL(m, uniform_);
}
