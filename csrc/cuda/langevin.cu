// affine_step: clamp((a x + b g) + c z); langevin_step: a = 1, b = eta, c = sqrt(2 eta T).
#include "langevin.h"

#include <cmath>
#include <limits>

namespace pyebm {
namespace {

template <class T>
struct alignas(4 * sizeof(T)) StepRow {
  T a, b, c;
};

template <class T>
struct MakeAffineRow {
  RowSource a, b, c;
  PYEBM_HD StepRow<T> operator()(int64_t i) const {
    return {static_cast<T>(a.at(i)), static_cast<T>(b.at(i)), static_cast<T>(c.at(i))};
  }
};

template <class T>
struct MakeLangevinRow {
  RowSource eta, temperature;
  PYEBM_HD StepRow<T> operator()(int64_t i) const {
    const double step_size = eta.at(i);
    return {T(1), static_cast<T>(step_size), static_cast<T>(sqrt(2.0 * step_size * temperature.at(i)))};
  }
};

// The operands have one shape; mean and mask are null where the call has none.
template <class S>
struct StepOperands {
  S* out;
  const S *x, *g;
  S* mean;
  const bool* mask;
  Bounds<Compute<S>> bounds;
  uint32_t plain;  // 1: neither mean, mask nor bounds, and a = 1: the step that most people take
};

template <class S, class Layout, class Known>
__global__ void __launch_bounds__(kThreads)
    step_kernel(StepOperands<S> in,  // [samples, ...] each
                Known samples,       // noise and coefficients: SampleRows or Runs
                Layout layout) {     // of the operands
  Place at;
  if (!find_place<S>(layout, at)) return;
  constexpr int kCount = kCountOf<S, Layout>;
  using T = Compute<S>;
  T x[kCount], g[kCount], value[kCount];
  layout.template load<1>(in.x, at, x);
  layout.template load<2>(in.g, at, g);
  SampleNoise noise;
  StepRow<T> row;
  samples.find(at.sample, noise, row);
  draw(noise, at, value);
  if (in.plain) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const StepRow<T>& own = samples.row_of(row, at, k);
      value[k] = affine_value(x[k] + own.b * g[k], value[k], own.c);
    }
  } else {
    bool keep[kCount];
    if (in.mask) layout.template load<4>(in.mask, at, keep);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const StepRow<T>& own = samples.row_of(row, at, k);
      g[k] = step_mean(x[k], g[k], own.a, own.b, in.bounds);
      value[k] = step_value(g[k], value[k], own.c, in.bounds);
      if (in.mask && !keep[k]) g[k] = value[k] = x[k];
    }
    if (in.mean) layout.template store<3>(in.mean, at, g);
  }
  layout.template store<0>(in.out, at, value);
}

// Make<T> makes a row from the sources; unit: a = 1 in every row.
template <template <class> class Make, class... Sources>
void step(const Call& call, const StepCall& options, bool unit, Sources... sources) {
  const Tensor &out = options.out, &state = options.x, &g = options.score;
  const int64_t run = run_of(out, {&sources...});
  with_dtype(call.op, out, [&](auto type) {
    using S = typename decltype(type)::type;
    using T = Compute<S>;
    const StepOperands<S> operands{pointer<S>(out),
                                   pointer<S>(state),
                                   pointer<S>(g),
                                   pointer<S>(options.mean),
                                   pointer<bool>(options.mask),
                                   options.bounds.template as<T>(),
                                   unit && !(options.mean || options.mask || are_set(options.bounds))};
    const auto launch = [&](const auto& samples) {
      using Known = std::decay_t<decltype(samples)>;
      with_layout<S, Known::kFine>(call, {&out, &state, &g, get(options.mean), get(options.mask)},
                                   [&](const auto& layout) {
                                     call.launch(step_kernel<S, std::decay_t<decltype(layout)>, Known>,
                                                 layout.pieces.blocks(), operands, samples, layout);
                                   });
    };
    with_rows<StepRow<T>>(call, out, options.noise, {sources...}, run, Make<T>{sources...}, launch);
  });
}

template <class Args>
StepCall step_call(const Call& call, const Args& args) {
  const args::StepOptions& options = args.options;
  return {args.out,
          args.x ? *args.x : args.out,
          args.score,
          call.noise(args.name, options.seeds, options.ids),
          options.mean,
          options.mask,
          bounds_of<double>(options)};
}

void affine_step(const args::AffineStep& args) {
  const Call call("affine_step", args.out);
  const int64_t samples = args.out.size(0), elements = elements_of(args.out);
  const RowSource a = row_source(call, "a", args.a, args.a_rows, samples, elements),
                  b = row_source(call, "b", args.b, args.b_rows, samples, elements),
                  c = row_source(call, "c", args.c, args.c_rows, samples, elements);
  step<MakeAffineRow>(call, step_call(call, args), !a.data && args.a == 1.0, a, b, c);
}

void langevin_step(const args::LangevinStep& args) {
  const Call call("langevin_step", args.out);
  const int64_t samples = args.out.size(0), elements = elements_of(args.out);
  const RowSource eta = row_source(call, "step_size", args.step_size, args.step_size_rows, samples, elements),
                  t = row_source(call, "temperature", args.temperature, args.temperature_rows, samples,
                                 elements);
  take_langevin_step(call, step_call(call, args), eta, t);
}

}  // namespace

void take_langevin_step(const Call& call, const StepCall& options, const RowSource& step_size,
                        const RowSource& temperature) {
  step<MakeLangevinRow>(call, options, true, step_size, temperature);
}

}  // namespace pyebm

PYEBM_CUDA_IMPL(m) {
  PYEBM_IMPL(m, affine_step);
  PYEBM_IMPL(m, langevin_step);
}
