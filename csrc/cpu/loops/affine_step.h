// Takes the affine step clamp((a x + b g) + c z) on all samples: the loop that every op with such a
// step shares. run_plain takes a step for a caller that goes around torch's dispatcher.
#pragma once

#include <limits>

#include "runs.h"

namespace pyebm {

// Each of these makes the coefficients a, b and c of n runs: AffineStep copies them, LangevinStep
// computes them from a step size and a temperature. kOfNoise is the one that c is 0 with.
struct AffineStep {
  static constexpr size_t kOfNoise = 2;
  template <class Values, class T>
  void operator()(int64_t n, const Values& values, T* const* out) const {
    for (int64_t k = 0; k < 3; ++k) std::copy(values[k], values[k] + n, out[k]);
  }
};
struct LangevinStep {
  static constexpr size_t kOfNoise = 1;
  template <class Values, class T>
  void operator()(int64_t n, const Values& values, T* const* out) const {
    const double *step_size = values[0], *temperature = values[1];
    std::fill(out[0], out[0] + n, T(1));
    std::copy(step_size, step_size + n, out[1]);
    for (int64_t i = 0; i < n; ++i)
      out[2][i] = static_cast<T>(std::sqrt(2.0 * step_size[i] * temperature[i]));
  }
};

// The options that all steps share: the view that receives the mean, the mask of the elements that
// move, and the bounds.
struct StepOptions {
  View mean, mask;
  Bounds<double> bounds;

  StepOptions(const Bounds<double>& bounds = kNoBounds<double>, const View& mask = {}, const View& mean = {})
      : mean(mean), mask(mask), bounds(bounds) {}
  explicit StepOptions(const args::StepOptions& given)
      : StepOptions(bounds_of<double>(given), View(given.mask), View(given.mean)) {}
};

template <size_t kCoefficients, class Make>
void step(const View& result, const View& state, const View& slope, const Runs<kCoefficients>& runs,
          Make make, const StepOptions& options, const NoiseSource& any_noise, const Shape& shape) {
  const View &mean_result = options.mean, &keep = options.mask;
  const NoiseSource noise = any_noise.times(runs[Make::kOfNoise]);
  with_compute_type(result.type(), [&](auto type) {
    using T = decltype(type);
    const Bounds<T> bounds = options.bounds.template as<T>();
    for_each_chunk(shape, [&] {
      return [&, buffer = NoiseBuffer(), x_work = Buffer<T>(), g_work = Buffer<T>(), mean_work = Buffer<T>(),
              mask_work = Buffer<uint8_t>(),
              numbers = RunNumbers<T, kCoefficients, 3>()](const Chunk& chunk, int64_t) mutable {
        buffer.will_need(chunk, {&state, &slope}, {&result, &mean_result});
        const float* z = noise.fill(chunk, buffer);
        const T* in = state.read(chunk.first, chunk.count, x_work.data);
        const T* g = slope.read(chunk.first, chunk.count, g_work.data);
        const uint8_t* m = keep ? keep.read(chunk.first, chunk.count, mask_work.data) : nullptr;
        T* target = result.target(chunk.first, x_work.data);
        T* mean_target = mean_result ? mean_result.target(chunk.first, mean_work.data) : nullptr;
        if (runs.are_long(chunk)) {
          numbers.for_each_run(runs, chunk, make, [&](int64_t at, int64_t n, const auto& abc) {
            kernels_of<T>().step(n, in + at, g + at, z + at, m ? m + at : nullptr, abc[0], abc[1], abc[2],
                                 bounds, target + at, mean_target ? mean_target + at : nullptr);
          });
        } else {
          const auto [a, b, c] = numbers.of_each(runs, chunk, make);
          kernels_of<T>().step_each(chunk.count, in, g, z, m, a, b, c, bounds, target, mean_target);
        }
        result.written(chunk.first, chunk.count, target);
        if (mean_target) mean_result.written(chunk.first, chunk.count, mean_target);
      };
    });
  });
}

// Takes a step in place on contiguous float32 or float64 tensors, without options, by calling
// take(x, score, noise, shape). The call goes around torch's dispatcher, because the dispatcher's
// code has left the caches by the time a sampler comes back from a network (docs/small-calls.md).
// Returns false where the step can't be taken this way; the op then takes it.
template <class Take>
bool run_plain(const plain::call& call, void* x, void* score, int64_t step, Take take) try {
  const int64_t count = call.samples * call.elements;
  if (count && !(x && score)) return false;  // autograd's tensors of zeros have no memory
  const int64_t bytes = count * (call.is_double ? 8 : 4),
                apart = static_cast<char*>(x) - static_cast<char*>(score);
  if (apart != 0 && -bytes < apart && apart < bytes) return false;  // they overlap in part
  const Shape shape(call.samples, call.elements, 0);
  const int64_t name[] = {call.seed, call.first_sample, step, call.stream};
  const ScalarType type = call.is_double ? ScalarType::Double : ScalarType::Float;
  take(View(x, type, count), View(score, type, count), NoiseSource(name, shape), shape);
  return true;
} catch (const std::exception&) {
  return false;
}

}  // namespace pyebm
