// affine_step: clamp((a x + b g) + c z); langevin_step: a = 1, b = eta, c = sqrt(2 eta T).
#include <torch/csrc/stable/library.h>

#include "steps.h"

namespace pyebm {
namespace {

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
  const auto row = [&](int64_t i) { return langevin_row(eta[i], t[i]); };
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

struct PlainStep {
  pyebm::PlainCall call;
  double a, b, c;
};

extern "C" __attribute__((visibility("default"))) bool pyebm_affine_step(const PlainStep* plain, void* x, void* score,
                                                                         int64_t step) {
  using namespace pyebm;
  return plain->call.run(x, score, step, [&](const View& state, const View& slope, const NoiseSource& noise, const Shape& shape) {
    const StepRow row{plain->a, plain->b, plain->c};
    pyebm::step(state, state, slope, false, [&](int64_t) { return row; }, {}, noise, shape);
  });
}
