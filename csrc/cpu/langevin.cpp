// affine_step: clamp((a x + b g) + c z); langevin_step: a = 1, b = eta, c = sqrt(2 eta T).
#include <torch/csrc/stable/library.h>

#include "steps.h"

namespace pyebm {
namespace {

void affine_step(Tensor out, std::optional<Tensor> x, Tensor score, double a, double b, double c, Tensor name,
                 std::optional<Tensor> a_rows, std::optional<Tensor> b_rows, std::optional<Tensor> c_rows,
                 std::optional<Tensor> mean, std::optional<Tensor> mask, std::optional<double> low, std::optional<double> high,
                 std::optional<double> score_clip, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  const char* op = "affine_step";
  const int64_t elements = out.numel();
  const Runs<3> runs({{{op, "a", a, a_rows, elements}, {op, "b", b, b_rows, elements}, {op, "c", c, c_rows, elements}}});
  runs[0].require_finite(op, "a");
  runs[1].require_finite(op, "b");
  runs[2].require_finite(op, "c");
  const Shape shape(out);
  const NoiseSource noise(name, seeds, ids, shape);
  const View result(out);
  step(result, x ? View(*x) : result, View(score), runs, AffineStep(), {View(mean), View(mask), low, high, score_clip}, noise,
       shape);
}

void langevin_step(Tensor out, std::optional<Tensor> x, Tensor score, double step_size, double temperature, Tensor name,
                   std::optional<Tensor> step_size_rows, std::optional<Tensor> temperature_rows, std::optional<Tensor> mean,
                   std::optional<Tensor> mask, std::optional<double> low, std::optional<double> high,
                   std::optional<double> score_clip, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  const char* op = "langevin_step";
  const int64_t elements = out.numel();
  const Runs<2> runs(
      {{{op, "step_size", step_size, step_size_rows, elements}, {op, "temperature", temperature, temperature_rows, elements}}});
  runs[0].require(op, "step_size", true);
  runs[1].require(op, "temperature", false);
  const Shape shape(out);
  const NoiseSource noise(name, seeds, ids, shape);
  const View result(out);
  step(result, x ? View(*x) : result, View(score), runs, LangevinStep(), {View(mean), View(mask), low, high, score_clip}, noise,
       shape);
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
    const Runs<3> runs({Coefficient(plain->a), Coefficient(plain->b), Coefficient(plain->c)});
    pyebm::step(state, state, slope, runs, AffineStep(), {}, noise, shape);
  });
}
