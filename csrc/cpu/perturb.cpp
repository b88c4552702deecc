// perturb: alpha x + sigma z.
#include <torch/csrc/stable/library.h>

#include "samples.h"

namespace pyebm {
namespace {

void perturb(Tensor out, Tensor x, double alpha, double sigma, Tensor name, std::optional<Tensor> alpha_rows,
             std::optional<Tensor> sigma_rows, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  const Coefficient a(alpha, alpha_rows), s = Coefficient(sigma, sigma_rows).require("perturb", "sigma", true);
  const Shape shape(x);
  const NoiseSource noise(name, seeds, ids, shape);
  const View source(x), result(out);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    for_each_chunk(shape, [&] {
      return [&, buffer = NoiseBuffer(), x_work = Buffer<T>(), out_work = Buffer<T>()](const Chunk& chunk, int64_t) mutable {
        const float* z = noise.fill(chunk, buffer);
        const T* in = source.read(chunk.first, chunk.count, x_work.data);
        T* target = result.target(chunk.first, out_work.data);
        for_each_run(chunk, a.per_sample() || s.per_sample(), [&](int64_t sample, int64_t at, int64_t n) {
          kernels_of<T>().perturb(n, in + at, z + at, static_cast<T>(a[sample]), static_cast<T>(s[sample]), target + at);
        });
        result.written(chunk.first, chunk.count, target);
      };
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { m.impl("perturb", TORCH_BOX(&pyebm::perturb)); }
