// predicted_step: x0 = clamp(a x + b g) and (of_x x + of_x0 x0) + c z, two affine steps in one pass.
#include "../loops/chunk_noise.h"

namespace pyebm {
namespace {

void predicted_step(const args::PredictedStep& args) {
  const Shape shape(args.out);
  const NoiseSource noise = NoiseSource(args.name, args.seeds, args.ids, shape).times(Coefficient(args.c));
  const View result(args.out), predicted(args.x0), state(args.x), slope(args.score);
  with_compute_type(args.out, [&](auto type) {
    using T = decltype(type);
    const Bounds<T> bounds = bounds_of<T>(args.low, args.high);
    const T a = static_cast<T>(args.a), b = static_cast<T>(args.b), c = static_cast<T>(args.c),
            of_x = static_cast<T>(args.of_x), of_x0 = static_cast<T>(args.of_x0);
    const auto step = kernels_of<T>().step;
    for_each_chunk(shape, [&] {
      return [&, buffer = NoiseBuffer(), x_work = Buffer<T>(), g_work = Buffer<T>(), x0_work = Buffer<T>(),
              out_work = Buffer<T>()](const Chunk& chunk, int64_t) mutable {
        buffer.will_need(chunk, {&state, &slope}, {&predicted, &result});
        const float* z = noise.fill(chunk, buffer);
        const T* x = state.read(chunk.first, chunk.count, x_work.data);
        const T* g = slope.read(chunk.first, chunk.count, g_work.data);
        T* x0 = predicted.target(chunk.first, x0_work.data);
        step(chunk.count, x, g, kNoNormals, nullptr, a, b, T(0), bounds, x0, nullptr);
        predicted.written(chunk.first, chunk.count, x0);
        predicted.round(chunk.count, x0);  // the draw follows from x0 as it is stored
        T* target = result.target(chunk.first, out_work.data);
        step(chunk.count, x, x0, z, nullptr, of_x, of_x0, c, kNoBounds<T>, target, nullptr);
        result.written(chunk.first, chunk.count, target);
      };
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, predicted_step); }
