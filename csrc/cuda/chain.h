// The surroundings of a chain's steps: the schedule of coefficients, the kept states, and the
// report of samples that diverge.
#pragma once

#include "../common/langevin.h"

#include <cmath>

#include "targets.h"

namespace pyebm {

template <class T>
struct alignas(2 * sizeof(T)) ChainRow {
  T h, c;  // the step size and the noise's scale
};

// The step size and the temperature: each is one number, one per sample, or one per step.
struct Schedule {
  RowSource eta, temperature;
  int64_t eta_step = 0, eta_sample = 0, temperature_step = 0, temperature_sample = 0;  // 1: indexed by it

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
  PYEBM_HD ChainRow<T> operator()(int64_t i) const {
    return schedule.at<T>(per_step ? i : 0, per_step ? 0 : i);
  }
};

template <class T>
struct Steps {
  int64_t count;
  Bounds<T> bounds;
  const ChainRow<T>* by_step;   // [count], or null where steps don't differ or `by_step_and_sample`
  uint32_t by_step_and_sample;  // 1: one coefficient goes by steps, the other by samples
  Schedule schedule;

  __device__ __forceinline__ void find(int64_t step, uint32_t sample, ChainRow<T>& row) const {
    if (by_step) row = by_step[step];
    if (by_step_and_sample) row = schedule.at<T>(step, sample);
  }
  // On a closed-form target, whose chains take no score_clip.
  template <class S>
  __device__ __forceinline__ T next(T x, T score, T z, const ChainRow<T>& row) const {
    return rounded<S>(step_value(x + row.h * rounded<S>(score), z, row.c, bounds));
  }
};

// The states after every `every`-th step, one after the other without gaps.
template <class S>
struct KeptStates {
  S* states;
  int64_t every;   // 0: none
  uint64_t bytes;  // of one state
  RowLayout<kGranule<S>> layout;

  // The address for the state after `step`, or null where that state is not kept.
  S* after(int64_t step) const {
    return every && (step + 1) % every == 0
               ? states + ((step + 1) / every - 1) * static_cast<int64_t>(bytes / sizeof(S))
               : nullptr;
  }
};

// diverged: [samples], the first step that left the sample not finite, or all ones for none.
struct Report {
  unsigned long long* diverged;

  __device__ __forceinline__ void tell(uint32_t sample, int64_t step) const {
    if (step >= 0) atomicMin(diverged + sample, static_cast<unsigned long long>(step));
  }
};

template <class T>
__device__ __forceinline__ bool is_finite(T x) {
  return x - x == T(0);
}

inline RowSource chain_source(const Call& call, const char* name, double number, const MaybeTensor& rows,
                              bool per_step, int64_t n_steps, int64_t samples, int64_t& of_step,
                              int64_t& of_sample) {
  const RowSource source = row_source(call, name, number, rows, per_step ? n_steps : samples);
  of_step = source.stride && per_step, of_sample = source.stride && !per_step;
  return source;
}

template <class S>
KeptStates<S> kept_states(const Pieces& pieces, const MaybeTensor& states, std::optional<int64_t> thin) {
  constexpr auto kItem = static_cast<int64_t>(sizeof(S)), kFit = static_cast<int64_t>(kGranule<S>);
  S* const data = pointer<S>(states);
  const int64_t size = pieces.samples * pieces.elements;
  const bool narrow = size % kFit || reinterpret_cast<uint64_t>(data) % 16;
  return {data,
          data ? thin.value_or(0) : 0,
          static_cast<uint64_t>(size * kItem),
          {pieces, static_cast<uint64_t>(pieces.elements * kItem), 0,
           static_cast<uint32_t>(pieces.elements % kFit), narrow}};
}

template <class Step>
__global__ void __launch_bounds__(kThreads) forget_kernel(Step* diverged,  // [samples]
                                                          int64_t samples) {
  const int64_t sample = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (sample < samples) diverged[sample] = ~Step{};  // -1: it never diverged
}

// The part of a chain's call that does not depend on its target: the noise, the coefficients, the
// report.
class ChainCall {
  const Call& call_;
  const Tensor& x_;
  const args::ChainSteps& given_;
  const NoiseName noise_;
  Schedule schedule_;

 public:
  ChainCall(const Call& call, const Tensor& x, const args::ChainSteps& given)
      : call_(call), x_(x), given_(given), noise_(call.noise(given.name, given.seeds, given.ids)) {
    const int64_t n_steps = given.n_steps, count = x.size(0);
    schedule_.eta = chain_source(call, "step_size", given.step_size, given.step_size_rows,
                                 given.step_size_per_step.value_or(false), n_steps, count, schedule_.eta_step,
                                 schedule_.eta_sample);
    schedule_.temperature = chain_source(call, "temperature", given.temperature, given.temperature_rows,
                                         given.temperature_per_step.value_or(false), n_steps, count,
                                         schedule_.temperature_step, schedule_.temperature_sample);
  }

  Report report() const { return {reinterpret_cast<unsigned long long*>(pointer<int64_t>(given_.diverged))}; }

  // Writes into the report that no sample diverged.
  void forget() const {
    const int64_t count = x_.size(0);
    if (auto* diverged = report().diverged)
      call_.launch(forget_kernel<unsigned long long>, ceil_div(count, kThreads), diverged, count);
  }

  // Calls body(steps, samples) with the coefficients, which live as long as the body runs.
  template <class T, class Body>
  void with_steps(Body body) const {
    const int64_t n_steps = given_.n_steps;
    const bool by_step_and_sample = schedule_.per_step() && schedule_.per_sample();
    Steps<T> steps{n_steps, bounds_of<T>(given_.low, given_.high, given_.score_clip), nullptr,
                   by_step_and_sample, schedule_};
    RowTable<ChainRow<T>> table{};
    MaybeTensor memory;  // the table of coefficients, by steps or by samples
    if (schedule_.per_step() && !by_step_and_sample) {
      memory = workspace<ChainRow<T>>(x_, n_steps);
      steps.by_step = fill_rows<ChainRow<T>>(call_, MakeChainRow<T>{schedule_, true}, *memory, n_steps);
    } else if (!by_step_and_sample) {
      table = row_table<ChainRow<T>>(call_, x_, {schedule_.eta, schedule_.temperature},
                                     MakeChainRow<T>{schedule_, false}, memory);
    }
    body(steps, SampleRows<ChainRow<T>>(noise_, table));
  }
};

}  // namespace pyebm
