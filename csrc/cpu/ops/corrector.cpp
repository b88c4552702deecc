// corrector_step: a Langevin step whose step size is factor |z|^2 / |g|^2, where |z| and |g| are
// the norms of each sample or the means of the batch's norms.
#include <vector>

#include "../loops/batch_mean.h"
#include "../loops/affine_step.h"

namespace pyebm {
namespace {

// |z|^2 and |g|^2 of every sample.
struct Squares {
  std::vector<double> noise, score;
};

// Sums the squares as the loss kernel does, to the last bit: the same partial sums, the same
// rounding.
template <class T>
Squares squares(const View& slope, const NoiseSource& noise, const Shape& shape) {
  const int64_t parts = std::max<int64_t>(shape.chunks_per_sample, 1);
  Squares sums{std::vector<double>(shape.samples * parts, 0.0),
               std::vector<double>(shape.samples * parts, 0.0)};
  for_each_chunk(shape, [&] {
    return [&, buffer = NoiseBuffer(), work = Buffer<T>()](const Chunk& chunk, int64_t) mutable {
      const float* z = noise.fill(chunk, buffer);
      const T* g = slope.read(chunk.first, chunk.count, work.data);
      const int64_t part = chunk.sample * parts + chunk.element / kChunk;
      T of_rows[kCalls];
      loss_kernels_of<T, float>().squares(chunk.rows, chunk.width, z, of_rows);
      std::copy(of_rows, of_rows + chunk.rows, sums.noise.data() + part);
      loss_kernels_of<T, T>().squares(chunk.rows, chunk.width, g, of_rows);
      std::copy(of_rows, of_rows + chunk.rows, sums.score.data() + part);
    };
  });
  for (std::vector<double>* each : {&sums.noise, &sums.score}) {
    for (int64_t b = 0; b < shape.samples; ++b) {
      double sum = 0;
      for (int64_t k = 0; k < parts; ++k) sum += (*each)[b * parts + k];
      (*each)[b] = static_cast<T>(sum);
    }
    each->resize(shape.samples);
  }
  return sums;
}

double mean_root(std::vector<double> squares) {
  for (double& each : squares) each = std::sqrt(each);
  return batch_mean(std::move(squares));
}

void corrector(const View& x, const View& slope, double factor, bool together, const StepOptions& options,
               const NoiseSource& noise, const Shape& shape) {
  if (!shape.samples) return;  // nothing to take a mean of
  Squares sums;
  with_compute_type(x.type(), [&](auto type) { sums = squares<decltype(type)>(slope, noise, shape); });
  std::vector<double>& step_size = sums.noise;
  if (together) {
    const double z = mean_root(sums.noise), g = mean_root(sums.score);
    step_size.assign(1, z * z / (g * g) * factor);
  } else {
    for (int64_t b = 0; b < shape.samples; ++b) step_size[b] = sums.noise[b] / sums.score[b] * factor;
  }
  const Coefficient eta(step_size.data(), static_cast<int64_t>(step_size.size()),
                        shape.samples * shape.elements);
  eta.require("corrector_step", "step_size", true);
  step(x, x, slope, Runs<2>({eta, Coefficient(1.0)}), LangevinStep(), options, noise, shape);
}

void corrector_step(const args::CorrectorStep& args) {
  const Shape shape(args.x);
  corrector(View(args.x), View(args.score), args.factor, args.together,
            {bounds_of<double>(args.low, args.high), View(args.mask)},
            NoiseSource(args.name, args.seeds, args.ids, shape), shape);
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, corrector_step); }

extern "C" __attribute__((visibility("default"))) bool pyebm_corrector_step(
    const pyebm::plain::corrector_step* plain, void* x, void* score, int64_t step) {
  using namespace pyebm;
  return run_plain(plain->call, x, score, step,
                   [&](const View& state, const View& slope, const NoiseSource& noise, const Shape& shape) {
                     corrector(state, slope, plain->factor, plain->together, {}, noise, shape);
                   });
}
