// leapfrog: HMC's kick and drift, p = p + eps s and x = x + eps p, in one pass.
#include "../loops/chunk_noise.h"

namespace pyebm {
namespace {

void leapfrog(const args::Leapfrog& args) {
  const Tensor& x = args.x;
  Shape shape(x);
  shape.without_noise();
  const Coefficient eps(args.step_size, args.step_size_rows);
  const View place(x), momentum(args.p), slope(args.score);
  const View old_place(args.from_x ? *args.from_x : x), old_momentum(args.from_p ? *args.from_p : args.p);
  const bool rounds =
      !args.step_size_rows;  // the product with one number is rounded to x's dtype, with many it is not
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    // Computes out = from + by v, rounded to x's dtype.
    const auto moved = [&](const Chunk& chunk, const T* from, const T* v, T* out, T* work) {
      with_rows<T>(chunk, eps, [&](int64_t rows, int64_t width, const T* by) {
        if (!rounds || x.element_size() >= 4) return kernels_of<T>().moved(rows, width, from, v, by, out);
        kernels_of<T>().scaled(rows, width, v, by, work);
        place.round(chunk.count, work);
        for (int64_t i = 0; i < chunk.count; ++i) out[i] = from[i] + work[i];
      });
      place.round(chunk.count, out);
    };
    for_each_chunk(shape, [&] {
      return [&, p_work = Buffer<T>(), x_work = Buffer<T>(), score_work = Buffer<T>()](const Chunk& chunk,
                                                                                       int64_t) mutable {
        const T* speed = old_momentum.read(chunk.first, chunk.count, p_work.data);
        if (slope) {
          T* kicked = momentum.target(chunk.first, p_work.data);
          moved(chunk, speed, slope.read(chunk.first, chunk.count, score_work.data), kicked, x_work.data);
          momentum.written(chunk.first, chunk.count, kicked);
          speed = kicked;
        }
        T* out = place.target(chunk.first, x_work.data);
        moved(chunk, old_place.read(chunk.first, chunk.count, x_work.data), speed, out, score_work.data);
        place.written(chunk.first, chunk.count, out);
      };
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, leapfrog); }
