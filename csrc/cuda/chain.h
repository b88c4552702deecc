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
  T low, high;
  const ChainRow<T>* by_step;  // [count], or null where steps don't differ or `both`
  uint32_t both;               // 1: one coefficient goes by steps, the other by samples
  Schedule schedule;

  __device__ __forceinline__ void find(int64_t step, uint32_t sample, ChainRow<T>& row) const {
    if (by_step) row = by_step[step];
    if (both) row = schedule.at<T>(step, sample);
  }
  template <class S>
  __device__ __forceinline__ T next(T x, T score, T z, const ChainRow<T>& row) const {
    return rounded<S>(step_value(x + row.h * rounded<S>(score), z, row.c, low, high));
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

}  // namespace pyebm
