// metropolis_chain: many steps of MALA or HMC, each of which gives the bits of the ops that take
// one step at a time (pyebm/samplers/mala.py, hmc.py).
#include "../loops/density.h"
#include "../loops/metropolis_steps.h"

namespace pyebm {
namespace {

template <class T>
T* numbers(const Tensor& tensor) {
  return static_cast<T*>(tensor.numel() ? tensor.data_ptr() : nullptr);
}

void require_table(const char* op, const char* name, const MaybeTensor& table, int64_t rows,
                   int64_t samples) {
  if (table && (table->size(0) != rows || table->size(1) != samples))
    fail(op, ": ", name, " must have the shape (", rows, ", ", samples, "), got (", table->size(0), ", ",
         table->size(1), ")");
}

Averaging averaging_of(const char* op, const args::Averaging& args, int64_t samples) {
  if (!args.averaging) return {};
  require_table(op, "averaging", args.averaging, 4, samples);
  double* rows = numbers<double>(*args.averaging);
  Coefficient(rows, samples, samples).require(op, "step_size", true);
  return {{rows, rows + samples, rows + 2 * samples, rows + 3 * samples},
          *args.averaged,
          *args.warmup,
          *args.acceptance};
}

void metropolis_chain(const args::MetropolisChain& args) {
  const char* op = "metropolis_chain";
  const Tensor& x = args.x;
  const int64_t samples = x.size(0), n_steps = args.n_steps, n_leapfrog = args.n_leapfrog,
                thin = args.thin.value_or(n_steps + 1);
  require_table(op, "reports", args.reports, 4 * (n_steps / thin), samples);
  if (args.temperature_rows && args.temperature_rows->size(0) != n_steps)
    fail(op, ": temperature must have one value for each of ", n_steps, " steps, got ",
         args.temperature_rows->size(0));
  if (args.root && x.element_size() < 4) fail(op, ": x must be float32 or float64 where root is given");
  const ChainTensors tensors{numbers<double>(args.energy),
                             numbers<int64_t>(args.accepted),
                             numbers<bool>(args.accept),
                             numbers<double>(args.log_alpha),
                             args.reports ? numbers<double>(*args.reports) : nullptr,
                             thin,
                             samples};
  const Averaging averaging = averaging_of(op, args.averages, samples);
  const bool by_step = args.step_size_per_step.value_or(false);
  const Steps steps{{args.step_size, args.step_size_rows, args.step_size_per_step},
                    {args.temperature, args.temperature_rows, true},
                    args.jitter,
                    n_leapfrog == 0,
                    averaging || (args.step_size_rows && !by_step)};
  if (!averaging) steps.size.require(op, "step_size", true);
  steps.temperature.require(op, "temperature", true);
  const Given given{View(x), View(args.mask), NoiseSource(args.name, args.seeds, args.ids, Shape(x))};
  given.noise.require_steps(n_steps);
  const Slopes slopes{View(args.score), View(args.root)};
  const int64_t scores = n_steps * (n_leapfrog + 2);  // a step costs about n_leapfrog + 2 of Langevin's
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    on_density<T>(op, x, args.density, {true, true, scores}, [&](const Blocks& blocks, auto make) {
      run_chain(blocks, n_steps, Kept(x, args.states, args.thin), [&] {
        using Made = MetropolisSteps<T, decltype(make())>;
        return std::make_unique<Made>(blocks, make, given, steps, averaging, n_leapfrog, args.constant,
                                      slopes, tensors);
      });
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, metropolis_chain); }
