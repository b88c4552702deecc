// Mixtures and full covariances on a GPU: their parameters, and the sums in memory between their
// kernels.
#pragma once

#include "chain.h"

namespace pyebm {

inline bool is_dense(int64_t target) { return kTargetFacts[target].is_dense; }

// The packed parameters (docs/dense-kernels.md), and the place of each array in them:
//   mixture: offset, scale, variance [components], inverse [dim], mean [components, stride];
//   mixture_diagonal: offset [components], mean, precision [components, stride];
//   gaussian_full: mean [dim], precision [dim, stride].
template <class T>
struct Dense {
  int target, dim;
  int64_t components, stride;  // a full covariance has dim of them
  const T *offset, *scale, *variance, *inverse, *mean, *precision;

  Dense(int64_t target, int64_t elements, const T* params, int64_t count)
      : target(static_cast<int>(target)),
        dim(static_cast<int>(elements)),
        components(elements),
        stride(row_stride(elements)) {
    if (target == kMixture) components = (count - elements) / (3 + stride);
    if (target == kMixtureDiagonal) components = count / (1 + 2 * stride);
    offset = params;
    scale = offset + components, variance = scale + components, inverse = variance + components;
    mean = target == kMixture           ? inverse + elements
           : target == kMixtureDiagonal ? offset + components
                                        : params;
    precision = target == kGaussianFull ? mean + elements : mean + components * stride;
  }

  // An element of a sample, in dimension d, in the coordinates that the kernels work in.
  __device__ __forceinline__ T moved(T x, int d) const {
    return target == kMixture ? x * inverse[d] : target == kMixtureDiagonal ? x : mean[d] - x;
  }
};

// The work in memory for a window of samples: their coordinates (Dense::moved), and the sums over
// each part of the components. For a full covariance, `means` holds the scores.
template <class T>
struct Gathered {
  int64_t rows, pitch;  // rows: whole tiles of samples; pitch: the dimensions, rounded up
  int parts;
  T *at, *means, *precisions;  // (rows, pitch), (parts, rows, pitch) twice
  T *most, *sum, *total;       // (parts, rows)
};

void dense_score(const Call& call, const Tensor& out, const Tensor& x, int64_t target, const Tensor& params);

template <class S>
void dense_chain(const Call& call, const Tensor& x, int64_t target, const Tensor& params,
                 const Steps<Compute<S>>& steps, const SampleRows<ChainRow<Compute<S>>>& samples,
                 const KeptStates<S>& kept, const Report& report);

template <class T>
Dense<T> checked_dense(const Call& call, int64_t target, const Tensor& params, const Tensor& x) {
  const int64_t elements = elements_of(x), count = params.numel();
  check_target(call.op, target, elements, count);
  if (elements > 0x7FFFFFFF - 1024) {
    fail(call.op, ": x must have fewer than 2^31 - 1024 elements a sample for the target ",
         kTargetFacts[target].name, ", got ", elements);
  }
  return Dense<T>(target, elements, pointer<T>(params), count);
}

}  // namespace pyebm
