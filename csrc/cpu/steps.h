// The affine step clamp((a x + b g) + c z) over all samples, which every op that takes one shares; and what a step needs to know
// that comes without torch's dispatcher.
#pragma once

#include <limits>

#include "samples.h"

namespace pyebm {

struct StepRow {
  double a, b, c;
};

inline StepRow langevin_row(double step_size, double temperature) {
  return {1.0, step_size, std::sqrt(2.0 * step_size * temperature)};
}

// What all ops take after their coefficients.
struct StepOptions {
  View mean, mask;
  std::optional<double> low, high, score_clip;
};

// row(sample) gives a sample's coefficients; per_sample says whether they differ.
template <class Row>
void step(const View& result, const View& state, const View& slope, bool per_sample, Row row, const StepOptions& options,
          const NoiseSource& noise, const Shape& shape) {
  const View &mean_result = options.mean, &keep = options.mask;
  if (result.overlaps_partly(slope)) fail("langevin_step_: x must not overlap score in part; clone one of them");
  constexpr double kNone = std::numeric_limits<double>::infinity();
  with_compute_type(result.type(), [&](auto type) {
    using T = decltype(type);
    const Bounds<T> bounds{static_cast<T>(options.low.value_or(-kNone)), static_cast<T>(options.high.value_or(kNone)),
                           static_cast<T>(options.score_clip.value_or(kNone))};
    for_each_chunk(shape, [&] {
      return [&, buffer = NoiseBuffer(), x_work = Buffer<T>(), g_work = Buffer<T>(), mean_work = Buffer<T>(),
              mask_work = Buffer<uint8_t>()](const Chunk& chunk, int64_t) mutable {
        const float* z = noise.fill(chunk, buffer);
        const T* in = state.read(chunk.first, chunk.count, x_work.data);
        const T* g = slope.read(chunk.first, chunk.count, g_work.data);
        const uint8_t* m = keep ? keep.read(chunk.first, chunk.count, mask_work.data) : nullptr;
        T* target = result.target(chunk.first, x_work.data);
        T* mean_target = mean_result ? mean_result.target(chunk.first, mean_work.data) : nullptr;
        for_each_run(chunk, per_sample, [&](int64_t sample, int64_t at, int64_t n) {
          const StepRow r = row(sample);
          kernels_of<T>().step(n, in + at, g + at, z + at, m ? m + at : nullptr, static_cast<T>(r.a), static_cast<T>(r.b),
                               static_cast<T>(r.c), bounds, target + at, mean_target ? mean_target + at : nullptr);
        });
        result.written(chunk.first, chunk.count, target);
        if (mean_target) mean_result.written(chunk.first, chunk.count, mean_target);
      };
    });
  });
}

// A step in place, of contiguous float32 or float64 tensors, without options and without torch's dispatcher: its code has left the
// caches by the time a sampler comes back from a network (docs/performance.md).
struct PlainCall {  // as in pyebm/samplers/_plain.py
  int64_t samples, elements, is_double;
  int64_t seed, first_sample, stream;

  // Calls take(x, score, noise, shape). What can't be so done is left to the op: false.
  template <class Take>
  bool run(void* x, void* score, int64_t step, Take take) const try {
    if (samples * elements && !(x && score)) return false;  // autograd's tensors of zeros have no memory
    const Shape shape(samples, elements, 0);
    const int64_t name[] = {seed, first_sample, step, stream};
    const ScalarType type = is_double ? ScalarType::Double : ScalarType::Float;
    take(View(x, type, samples * elements), View(score, type, samples * elements), NoiseSource(name, shape), shape);
    return true;
  } catch (const std::exception&) {
    return false;
  }
};

}  // namespace pyebm
