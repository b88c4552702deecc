// perturb: alpha x + sigma z.
#include "../loops/runs.h"

namespace pyebm {
namespace {

void perturb(const args::Perturb& args) {
  const Tensor& x = args.x;
  const Runs<2> runs({{{args.alpha, args.alpha_rows, x.numel()}, {args.sigma, args.sigma_rows, x.numel()}}});
  runs[0].require_finite("perturb", "alpha");
  runs[1].require("perturb", "sigma", false);
  const Shape shape(x);
  const NoiseSource noise = NoiseSource(args.name, args.seeds, args.ids, shape).times(runs[1]);
  const View source(x), result(args.out);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const auto make = [](int64_t n, const auto& values, T* const* out) {
      for (int64_t k = 0; k < 2; ++k) std::copy(values[k], values[k] + n, out[k]);
    };
    for_each_chunk(shape, [&] {
      return [&, buffer = NoiseBuffer(), x_work = Buffer<T>(), out_work = Buffer<T>(),
              numbers = RunNumbers<T, 2, 2>()](const Chunk& chunk, int64_t) mutable {
        buffer.will_need(chunk, {&source}, {&result});
        const float* z = noise.fill(chunk, buffer);
        const T* in = source.read(chunk.first, chunk.count, x_work.data);
        T* target = result.target(chunk.first, out_work.data);
        if (runs.are_long(chunk)) {
          numbers.for_each_run(runs, chunk, make, [&](int64_t at, int64_t n, const auto& factors) {
            kernels_of<T>().perturb(n, in + at, z + at, factors[0], factors[1], target + at);
          });
        } else {
          const auto [a, s] = numbers.of_each(runs, chunk);
          kernels_of<T>().perturb_each(chunk.count, in, z, a, s, target);
        }
        result.written(chunk.first, chunk.count, target);
      };
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, perturb); }
