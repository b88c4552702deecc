// langevin_chain: many Langevin steps on a closed-form target, each the bits of target_score and langevin_step. A thread's part of
// the state stays in its registers: one read, one write.
#include "../common/langevin.h"

#include <cmath>
#include <limits>

#include "targets.h"

namespace pyebm {
namespace {

// What a step needs of step size and temperature: 0 where they are the same for all samples, or for all steps.
template <class T>
struct alignas(2 * sizeof(T)) ChainRow {
  T h, c;
};

struct Schedule {
  RowSource eta, temperature;
  int64_t eta_step = 0, eta_sample = 0, temperature_step = 0, temperature_sample = 0;  // 0 or 1: which of the two counts

  template <class T>
  PYEBM_HD ChainRow<T> at(int64_t step, int64_t sample) const {
    const double h = eta.at(step * eta_step + sample * eta_sample);
    const double t = temperature.at(step * temperature_step + sample * temperature_sample);
    return {static_cast<T>(h), static_cast<T>(sqrt(2.0 * h * t))};
  }
  bool per_step() const { return eta_step || temperature_step; }
  bool per_sample() const { return eta_sample || temperature_sample; }
};

template <class T>
struct MakeChainRow {
  Schedule schedule;
  bool per_step;
  PYEBM_HD ChainRow<T> operator()(int64_t i) const { return schedule.at<T>(per_step ? i : 0, per_step ? 0 : i); }
};

template <class S, int kGranule>
struct ChainOperands {
  S* x;
  int64_t n_steps;
  Bounds<Compute<S>> bounds;
  Schedule schedule;
  const ChainRow<Compute<S>>* by_step;  // null where it is one for all steps
  uint32_t both;                        // 1: the schedule has to be asked for every step and sample
  // The states after every `thin`th step, side by side.
  S* states;
  int64_t thin, state_size;
  Rows<kGranule> kept;
  unsigned long long* diverged;  // the first step whose state is not finite; all ones before there is one
};

template <class T, int kCount>
__device__ __forceinline__ bool all_finite(const T (&x)[kCount], int count) {
  bool good = true;
#pragma unroll
  for (int k = 0; k < kCount; ++k) good = good && (k >= count || x[k] - x[k] == T(0));
  return good;
}

template <class S, class Layout, int kGranule>
__global__ void __launch_bounds__(kThreads) chain_kernel(ChainOperands<S, kGranule> in, int target, const Compute<S>* params,
                                                         int numbers, Samples<ChainRow<Compute<S>>> samples, Layout layout) {
  Place at;
  if (!find_place<S>(layout, at)) return;
  constexpr int kCount = kCountOf<S, Layout>;
  using T = Compute<S>;
  T x[kCount];
  layout.template load<0>(in.x, at, x);
  SampleNoise noise;
  ChainRow<T> row;
  samples.find(at.sample, noise, row);
  const Elementwise<T> scores(target, params, numbers);
  int64_t bad = -1, until_kept = in.thin;
  Place kept = in.kept.template place<kCount>(at.sample, at.group / (kCount / 4));
#pragma unroll 1
  for (int64_t step = 0; step < in.n_steps; ++step) {
    T g[kCount], z[kCount];
    draw(noise, at, z, static_cast<uint32_t>(step));
    scores.score(x, g);
    round_to<S>(g);
    if (in.by_step) row = in.by_step[step];
    if (in.both) row = in.schedule.template at<T>(step, at.sample);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      x[k] = step_value(x[k] + row.h * g[k], z[k], row.c, in.bounds.low, in.bounds.high);
    }
    round_to<S>(x);
    if (--until_kept == 0) {
      in.kept.template store<0>(in.states, kept, x);
      kept.bytes += static_cast<uint64_t>(in.state_size) * sizeof(S);
      until_kept = in.thin;
    }
    if (in.diverged && bad < 0 && !all_finite(x, at.count)) bad = step;
  }
  layout.template store<0>(in.x, at, x);
  if (bad >= 0) atomicMin(in.diverged + at.sample, static_cast<unsigned long long>(bad));
}

__global__ void __launch_bounds__(kThreads) forget_kernel(unsigned long long* diverged, int64_t samples) {
  const int64_t sample = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (sample < samples) diverged[sample] = ~0ull;  // -1: never
}

// Of the states, which follow each other without gaps.
template <class S>
Rows<kGranule<S>> kept_layout(const Pieces& pieces, const MaybeTensor& states) {
  constexpr auto kItem = static_cast<int64_t>(sizeof(S)), kFit = static_cast<int64_t>(kGranule<S>);
  const bool narrow = pieces.samples * pieces.elements % kFit || reinterpret_cast<uint64_t>(pointer<S>(states)) % 16;
  return {pieces, static_cast<uint64_t>(pieces.elements * kItem), 0, static_cast<uint32_t>(pieces.elements % kFit), narrow};
}

// Rows of one value per step, or per sample.
RowSource chain_source(const Call& call, const char* name, double number, const MaybeTensor& rows, bool per_step, int64_t n_steps,
                       int64_t samples, int64_t& of_step, int64_t& of_sample) {
  const RowSource source = row_source(call, name, number, rows, per_step ? n_steps : samples);
  of_step = source.stride && per_step, of_sample = source.stride && !per_step;
  return source;
}

void langevin_chain(Tensor x, int64_t target, Tensor params, int64_t n_steps, double step_size, double temperature, Tensor name,
                    MaybeTensor step_size_rows, MaybeTensor temperature_rows, std::optional<bool> step_size_per_step,
                    std::optional<bool> temperature_per_step, MaybeTensor states, std::optional<int64_t> thin, MaybeTensor diverged,
                    std::optional<double> low, std::optional<double> high, MaybeTensor seeds, MaybeTensor ids) {
  const Call call("langevin_chain", x);
  const int64_t count = x.size(0), elements = elements_of(x);
  const NoiseName noise = call.noise(name, seeds, ids, count);
  call.expect("states", states, x.scalar_type()).expect("diverged", diverged, ScalarType::Long);
  Schedule schedule;
  schedule.eta = chain_source(call, "step_size", step_size, step_size_rows, step_size_per_step.value_or(false), n_steps, count,
                              schedule.eta_step, schedule.eta_sample);
  schedule.temperature = chain_source(call, "temperature", temperature, temperature_rows, temperature_per_step.value_or(false),
                                      n_steps, count, schedule.temperature_step, schedule.temperature_sample);
  constexpr double kNone = std::numeric_limits<double>::infinity();
  auto* first_bad = reinterpret_cast<unsigned long long*>(pointer<int64_t>(diverged));
  if (first_bad) call.launch(forget_kernel, ceil_div(count, kThreads), first_bad, count);
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    using T = Compute<S>;
    const T* numbers = checked_params<T>(call, target, params);
    const bool both = schedule.per_step() && schedule.per_sample();
    MaybeTensor step_memory, memory;
    // One table by step or by sample; where both count, neither.
    RowTable<ChainRow<T>> table{};
    const ChainRow<T>* by_step = nullptr;
    if (schedule.per_step() && !both && n_steps) {
      step_memory = workspace<ChainRow<T>>(x, n_steps);
      by_step = fill_rows<ChainRow<T>>(call, MakeChainRow<T>{schedule, true}, *step_memory, n_steps);
    } else if (!both) {
      table = row_table<ChainRow<T>>(call, x, {schedule.eta, schedule.temperature}, MakeChainRow<T>{schedule, false}, memory);
    }
    with_layout<S>(call, {&x}, [&](const auto& layout) {
      using Layout = std::decay_t<decltype(layout)>;
      const Rows<kGranule<S>> kept = kept_layout<S>(Pieces(count, elements, kCountOf<S, Layout>), states);
      const ChainOperands<S, kGranule<S>> operands{
          pointer<S>(x),
          n_steps,
          {static_cast<T>(low.value_or(-kNone)), static_cast<T>(high.value_or(kNone)), static_cast<T>(kNone)},
          schedule,
          by_step,
          both,
          pointer<S>(states),
          states && states->numel() ? *thin : 0,
          count * elements,
          kept,
          first_bad};
      call.launch(chain_kernel<S, Layout, kGranule<S>>, layout.pieces.blocks(), operands, target, numbers, params.numel(),
                  Samples<ChainRow<T>>(noise, table), layout);
    });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) { m.impl("langevin_chain", TORCH_BOX(&pyebm::langevin_chain)); }
