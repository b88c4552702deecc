// A network as its kernels take it: layers of weights that network_pack.h has laid out, run by
// network_kernels.h at each SIMD level.
#pragma once

#include <cstdint>

namespace pyebm {

// As in pyebm/_schemas.py ACTIVATIONS.
enum Activation : int64_t {
  kIdentity,
  kSilu,
  kTanh,
  kSoftplus,
  kSigmoid,
  kGelu,
  kGeluTanh,
  kElu,
  kRelu,
  kLeakyRelu,
  kActivations
};

constexpr int64_t kMostLayers = 9, kMostWidth = 512, kMostDim = 4096;

// y = act(W [h; x] + b) or, of a residual layer, h + act(...); the x only where there is a skip.
template <class T>
struct Layer {
  int64_t inputs, outputs;  // inputs: of h alone
  int64_t activation;
  bool residual, skip;
  T parameter;                     // of the activation
  int64_t bias;                    // where its biases begin in a row of them
  const T *forward, *to_h, *to_x;  // packed: W, and the transposes of its part for h and of that for x
};

template <class T>
struct Network {
  bool
      is_energy;  // E(x) = the output + q |x|^2, whose score is -grad E; else the output - 2 q x is the score
  int64_t dim, count;
  Layer<T> layers[kMostLayers];
  T quadratic;
  const T* biases;
  int64_t bias_of_step,
      bias_of_sample;     // from one's row of biases to the next one's; 0 where all have the same
  bool neurons_in_lanes;  // for few samples; else the samples are
};

// Some samples of a batch at a step of a chain.
struct NetworkRows {
  int64_t first, count, step;
};

// A function of some samples' energies and scores, and room for its gradient. It is energy_above E
// + square E^2 or score_above . s of each or, where there is a kappa, the loss weight (1/2 |kappa s
// + z|^2 + trace sum_k v_k . (slope of s) v_k), in place of whose square stands sum_k (v_k . s)^2
// where it is taken along the directions alone. Null: not there, not wanted.
template <class T>
struct NetworkGradient {
  const T *x, *energy_above, *score_above;  // row by row, as all of these
  double square;
  const T *kappa, *weight, *z;
  T trace;
  bool along;
  int64_t directions, of_sample;  // from one sample's directions to the next one's
  const T* v;
  double* loss;
  bool differentiate;
  T *sums, *grad_x, *grad_biases;  // the first of all samples so far
  int64_t biases;                  // of a sample
};

template <class T>
struct NetworkKernels {
  int64_t lanes;                              // samples that fill the lanes
  bool (*neurons_in_lanes)(int64_t at_once);  // is that better, for so many samples?
  // Numbers of a packed matrix, and the packing: of w[output * output_stride + input *
  // input_stride].
  int64_t (*packed)(bool neurons_in_lanes, int64_t outputs, int64_t inputs);
  void (*pack)(bool neurons_in_lanes, int64_t outputs, int64_t inputs, const T* w, int64_t output_stride,
               int64_t input_stride, T* to);
  int64_t (*scratch)(const Network<T>&);
  // The scores of rows of x and their energies, unless null.
  void (*score)(const Network<T>&, NetworkRows, const T* x, T* scratch, T* score, double* energy);
  // The Hessian of the energies of rows of x, times v.
  int64_t (*scratch_of_hvp)(const Network<T>&);
  void (*hvp)(const Network<T>&, NetworkRows, const T* x, const T* v, T* scratch, T* out);
  // The gradient of a function of energies and scores: its sums over a part of the batch, so many
  // numbers; and of all parts, as params lie.
  int64_t (*scratch_of_gradient)(const Network<T>&, int64_t directions);
  int64_t (*sums_of_gradient)(const Network<T>&);
  void (*gradient)(const Network<T>&, NetworkRows, const NetworkGradient<T>&, T* scratch);
  void (*gather_gradient)(const Network<T>&, int64_t parts, const T* sums, T* out);
  // Its trace, one a row, by the same scratch.
  void (*laplacian)(const Network<T>&, NetworkRows, const T* x, T* scratch, T* out);
};

}  // namespace pyebm
