// affine_step: clamp((a x + b g) + c z); langevin_step: a = 1, b = eta, c = sqrt(2 eta T).
#include "../loops/affine_step.h"

namespace pyebm {
namespace {

template <class Args, size_t kCount, class Make>
void step(const Args& args, const Runs<kCount>& runs, Make make) {
  const args::StepOptions& options = args.options;
  const Shape shape(args.out);
  const NoiseSource noise(args.name, options.seeds, options.ids, shape);
  const View result(args.out);
  step(result, args.x ? View(*args.x) : result, View(args.score), runs, make, StepOptions(options), noise,
       shape);
}

void affine_step(const args::AffineStep& args) {
  const int64_t elements = args.out.numel();
  const Runs<3> runs(
      {{{args.a, args.a_rows, elements}, {args.b, args.b_rows, elements}, {args.c, args.c_rows, elements}}});
  runs[0].require_finite("affine_step", "a");
  runs[1].require_finite("affine_step", "b");
  runs[2].require_finite("affine_step", "c");
  step(args, runs, AffineStep());
}

void langevin_step(const args::LangevinStep& args) {
  const int64_t elements = args.out.numel();
  const Runs<2> runs({{{args.step_size, args.step_size_rows, elements},
                       {args.temperature, args.temperature_rows, elements}}});
  runs[0].require("langevin_step", "step_size", true);
  runs[1].require("langevin_step", "temperature", false);
  step(args, runs, LangevinStep());
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  PYEBM_IMPL(m, affine_step);
  PYEBM_IMPL(m, langevin_step);
}

// Names the arguments that the functions below read. Python compares them with those that it
// passes, since its files may be of another version than this library (pyebm/_plain_args.py).
extern "C" __attribute__((visibility("default"))) const char* pyebm_plain_layout() {
  return pyebm::plain::kLayout;
}

extern "C" __attribute__((visibility("default"))) bool pyebm_affine_step(
    const pyebm::plain::affine_step* plain, void* x, void* score, int64_t step) {
  using namespace pyebm;
  return run_plain(
      plain->call, x, score, step,
      [&](const View& state, const View& slope, const NoiseSource& noise, const Shape& shape) {
        const Runs<3> runs({Coefficient(plain->a), Coefficient(plain->b), Coefficient(plain->c)});
        pyebm::step(state, state, slope, runs, AffineStep(), {}, noise, shape);
      });
}
