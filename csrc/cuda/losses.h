// The surroundings of a loss's pass over the elements: the coefficients, the gradient from above,
// and the second stage of the sums.
#pragma once

#include "../common/losses.h"
#include "reduce.h"
#include "coefficients.h"

namespace pyebm {

enum Reduction : int64_t { kNone, kSample, kSum, kMean, kBatchMean };

// The operands have one shape; z and x0 are null where the call has none. Without z, the kernels
// draw the noise by its name.
template <class S>
struct LossOperands {
  const S *pred, *z, *x0;
  uint32_t drawn, plain;  // 1: no z; 1: also no x0, and lambda = 1, as in the DSM loss
};

// The gradient from above, grad_output: one number, one per sample, or one per element.
template <class T>
struct Above {
  const T* data;
  int64_t stride;
  bool elementwise;
};

template <class T>
Above<T> from_above(const Call& call, const Tensor& grad_output, bool elementwise) {
  call.expect("grad_output", grad_output, std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float);
  bool one_a_sample =
      true;  // an expanded tensor, as sum().backward() gives it, is not read element by element
  for (int64_t d = 1; elementwise && d < grad_output.dim(); ++d)
    one_a_sample = one_a_sample && (grad_output.stride(d) == 0);
  const int64_t count = elementwise ? grad_output.size(0) : grad_output.numel();
  return {pointer<T>(grad_output), count == 1 ? 0 : grad_output.stride(0), elementwise && !one_a_sample};
}

struct LossWeight {
  RowSource kappa, weight;
  double factor;
  bool over_kappa2;

  PYEBM_HD double at(int64_t b) const { return loss_weight(kappa.at(b), weight.at(b), factor, over_kappa2); }
};

template <class T>
struct MakeLossRow {
  RowSource lambda, mu;
  LossWeight weight;
  double scale;
  PYEBM_HD LossRow<T> operator()(int64_t b) const {
    return loss_row<T>(weight.kappa.at(b), lambda.at(b), mu.at(b), weight.at(b), scale);
  }
};

struct LossCoefficients {
  RowSource lambda, mu;
  LossWeight weight;
  double divisor;  // the reduction divides the sum by it
  int64_t run;     // elements of a run, by run_of()

  LossCoefficients(const Call& call, const Tensor& pred, const args::LossTerms& terms) {
    const int64_t samples = pred.size(0), elements = elements_of(pred), reduction = terms.reduction;
    lambda = row_source(call, "lam", terms.lam, terms.lam_rows, samples, elements);
    mu = row_source(call, "mu", terms.mu, terms.mu_rows, samples, elements);
    weight = {row_source(call, "kappa", terms.kappa, terms.kappa_rows, samples, elements),
              row_source(call, "weight", terms.weight, terms.weight_rows, samples, elements), terms.factor,
              terms.over_kappa2};
    const double batch = static_cast<double>(samples);
    divisor = reduction == kMean        ? batch * static_cast<double>(elements)
              : reduction == kBatchMean ? batch
                                        : 1.0;
    run = run_of(pred, {&lambda, &mu, &weight.kappa, &weight.weight});
  }

  template <class S>
  LossOperands<S> operands(const Tensor& pred, const MaybeTensor& z, const MaybeTensor& x0) const {
    const bool unit = !lambda.data && lambda.number == 1.0;
    return {pointer<S>(pred), pointer<S>(z), pointer<S>(x0), !z, !z && !x0 && unit};
  }

  template <class T, class Body>
  void with(const Call& call, const Tensor& pred, const NoiseName& noise, Body body) const {
    const MakeLossRow<T> make{lambda, mu, weight, 1.0 / divisor};
    with_rows<LossRow<T>>(call, pred, noise, {lambda, mu, weight.kappa, weight.weight}, run, make, body);
  }

  // The weight of a sample's sum: 1 where the elements' own weights are in the sum already.
  LossWeight of_sums() const { return run ? LossWeight{{1.0}, {1.0}, 1.0, false} : weight; }
};

// One warp adds a sample's parts in a fixed order. loss: [samples]; partial: [samples, parts].
template <class T>
__global__ void __launch_bounds__(kThreads) sample_kernel(T* loss,                // [samples]
                                                          const double* partial,  // [samples, parts]
                                                          LossWeight weight,      // of each sample
                                                          int64_t samples, int64_t parts) {
  const int64_t sample = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  double sum = 0;
  if (sample < samples) {
    for (int64_t k = lane; k < parts; k += 32) sum += partial[sample * parts + k];
  }
  sum = team_sum(sum, 5);
  if (sample < samples && lane == 0) loss[sample] = static_cast<T>(weight.at(sample) * sum);
}

// Block k adds the terms [k * chunk, (k + 1) * chunk) and writes out[k]. weighted: the terms are
// partial sums, and each is multiplied by its sample's weight.
template <class Out>
__global__ void __launch_bounds__(kThreads) total_kernel(Out* out,             // [blocks]
                                                         const double* terms,  // [count]
                                                         int64_t count,
                                                         int64_t chunk,  // terms of a block
                                                         bool weighted, LossWeight weight,
                                                         Divider parts,     // terms of a sample
                                                         double divisor) {  // the reduction's
  const int64_t first = static_cast<int64_t>(blockIdx.x) * chunk;
  const int64_t end = first + chunk < count ? first + chunk : count;
  double sum = 0;
  for (int64_t k = first + threadIdx.x; k < end; k += kThreads) {
    const double term = terms[k];
    sum += weighted ? weight.at(static_cast<int64_t>(parts.divide(static_cast<uint64_t>(k)))) * term : term;
  }
  sum = team_sum(sum, 7);
  if (threadIdx.x == 0) out[blockIdx.x] = static_cast<Out>(sum / divisor);
}

template <class T>
void finish(const Call& call, const Tensor& loss, int64_t reduction, const LossCoefficients& c,
            const Tensor& partial, int64_t samples, int64_t parts) {
  const double* sums = pointer<double>(partial);
  const LossWeight weight = c.of_sums();
  if (reduction == kSample) {
    call.launch(sample_kernel<T>, ceil_div(samples * 32, kThreads), pointer<T>(loss), sums, weight, samples,
                parts);
    return;
  }
  constexpr int64_t kChunk = 4096;
  const int64_t count = samples * parts, blocks = ceil_div(count, kChunk);
  const Divider divider(parts);
  if (blocks <= 1) {
    call.launch(total_kernel<T>, 1, pointer<T>(loss), sums, count, count, true, weight, divider, c.divisor);
    return;
  }
  const int64_t chunk = blocks <= kChunk ? kChunk : ceil_div(count, kChunk), used = ceil_div(count, chunk);
  const Tensor totals = workspace<double>(partial, used);
  call.launch(total_kernel<double>, used, pointer<double>(totals), sums, count, chunk, true, weight, divider,
              1.0);
  call.launch(total_kernel<T>, 1, pointer<T>(loss), pointer<double>(totals), used, used, false, weight,
              divider, c.divisor);
}

}  // namespace pyebm
