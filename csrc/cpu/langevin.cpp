// affine_step: clamp((a x + b g) + c z); langevin_step: a = 1, b = eta, c = sqrt(2 eta T).
#include <torch/csrc/stable/library.h>

#include <limits>

#include "samples.h"

namespace pyebm {
namespace {

struct StepRow {
  double a, b, c;
};

// What both ops take after their coefficients.
struct Options {
  View mean, mask;
  std::optional<double> low, high, score_clip;
};

// row(sample) gives a sample's coefficients; per_sample says whether they differ.
template <class Row>
void step(const View& result, const View& state, const View& slope, bool per_sample, Row row, const Options& options,
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

void affine_step(Tensor out, std::optional<Tensor> x, Tensor score, double a, double b, double c, Tensor name,
                 std::optional<Tensor> a_rows, std::optional<Tensor> b_rows, std::optional<Tensor> c_rows,
                 std::optional<Tensor> mean, std::optional<Tensor> mask, std::optional<double> low, std::optional<double> high,
                 std::optional<double> score_clip, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  const Coefficient aa(a, a_rows), bb(b, b_rows), cc(c, c_rows);
  const Shape shape(out);
  const NoiseSource noise(name, seeds, ids, shape);
  const bool per_sample = aa.per_sample() || bb.per_sample() || cc.per_sample();
  const auto row = [&](int64_t i) { return StepRow{aa[i], bb[i], cc[i]}; };
  const View result(out);
  step(result, x ? View(*x) : result, View(score), per_sample, row, {View(mean), View(mask), low, high, score_clip}, noise, shape);
}

void langevin_step(Tensor out, std::optional<Tensor> x, Tensor score, double step_size, double temperature, Tensor name,
                   std::optional<Tensor> step_size_rows, std::optional<Tensor> temperature_rows, std::optional<Tensor> mean,
                   std::optional<Tensor> mask, std::optional<double> low, std::optional<double> high,
                   std::optional<double> score_clip, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  const Coefficient eta(step_size, step_size_rows), t(temperature, temperature_rows);
  eta.require("langevin_step", "step_size", true);
  t.require("langevin_step", "temperature", false);
  const Shape shape(out);
  const NoiseSource noise(name, seeds, ids, shape);
  const auto row = [&](int64_t i) { return StepRow{1.0, eta[i], std::sqrt(2.0 * eta[i] * t[i])}; };
  const View result(out);
  step(result, x ? View(*x) : result, View(score), eta.per_sample() || t.per_sample(), row,
       {View(mean), View(mask), low, high, score_clip}, noise, shape);
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  m.impl("affine_step", TORCH_BOX(&pyebm::affine_step));
  m.impl("langevin_step", TORCH_BOX(&pyebm::langevin_step));
}

// affine_step in place, for contiguous float32 or float64 tensors, without options and without torch's dispatcher: its code has
// left the caches by the time a sampler comes back from a network (docs/performance.md). What can't be so done is left to the op:
// false.
struct PlainStep {  // as in pyebm/samplers/_plain.py
  int64_t samples, elements, is_double;
  double a, b, c;
  int64_t seed, first_sample, stream;
};

extern "C" __attribute__((visibility("default"))) bool pyebm_affine_step(const PlainStep* plain, void* x, void* score,
                                                                         int64_t step) try {
  using namespace pyebm;
  const Shape shape(plain->samples, plain->elements, 0);
  const int64_t name[] = {plain->seed, plain->first_sample, step, plain->stream};
  const ScalarType type = plain->is_double ? ScalarType::Double : ScalarType::Float;
  const View state(x, type, shape.samples * shape.elements), slope(score, type, shape.samples * shape.elements);
  const StepRow row{plain->a, plain->b, plain->c};
  pyebm::step(state, state, slope, false, [&](int64_t) { return row; }, {}, NoiseSource(name, shape), shape);
  return true;
} catch (const std::exception&) {
  return false;
}
