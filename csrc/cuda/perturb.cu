// perturb: alpha x + sigma z.
#include "../common/langevin.h"
#include "coefficients.h"

namespace pyebm {
namespace {

template <class T>
struct alignas(2 * sizeof(T)) PerturbRow {
  T alpha, sigma;
};

template <class T>
struct MakePerturbRow {
  RowSource alpha, sigma;
  PYEBM_HD PerturbRow<T> operator()(int64_t b) const {
    return {static_cast<T>(alpha.at(b)), static_cast<T>(sigma.at(b))};
  }
};

template <class S, class Layout, class Known>
__global__ void __launch_bounds__(kThreads)
    perturb_kernel(S* out,           // [samples, ...]
                   const S* x,       // [samples, ...]
                   Known samples,    // noise and coefficients: SampleRows or Runs
                   Layout layout) {  // of both
  Place at;
  if (!find_place<S>(layout, at)) return;
  constexpr int kCount = kCountOf<S, Layout>;
  using T = Compute<S>;
  T value[kCount], z[kCount];
  layout.template load<1>(x, at, value);
  SampleNoise noise;
  PerturbRow<T> row;
  samples.find(at.sample, noise, row);
  draw(noise, at, z);
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const PerturbRow<T>& own = samples.row_of(row, at, k);
    value[k] = perturbed(value[k], z[k], own.alpha, own.sigma);
  }
  layout.template store<0>(out, at, value);
}

void perturb(const args::Perturb& args) {
  const Tensor &out = args.out, &x = args.x;
  const Call call("perturb", x);
  const int64_t samples = x.size(0), elements = elements_of(x);
  const NoiseName noise = call.noise(args.name, args.seeds, args.ids);
  RowSource a = row_source(call, "alpha", args.alpha, args.alpha_rows, samples, elements),
            s = row_source(call, "sigma", args.sigma, args.sigma_rows, samples, elements);
  const int64_t run = run_of(x, {&a, &s});
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    using T = Compute<S>;
    with_rows<PerturbRow<T>>(call, x, noise, {a, s}, run, MakePerturbRow<T>{a, s}, [&](const auto& all) {
      using Known = std::decay_t<decltype(all)>;
      with_layout<S, Known::kFine>(call, {&out, &x}, [&](const auto& layout) {
        call.launch(perturb_kernel<S, std::decay_t<decltype(layout)>, Known>, layout.pieces.blocks(),
                    pointer<S>(out), pointer<S>(x), all, layout);
      });
    });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) { PYEBM_IMPL(m, perturb); }
