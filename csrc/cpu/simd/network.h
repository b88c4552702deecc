// A network as its kernels take it: layers of weights that network_pack.h has laid out, run by
// network_kernels.h at each SIMD level.
#pragma once

#include "../../common/network_shape.h"

namespace pyebm {

// A layer of NetworkShape, with its numbers.
template <class T>
struct Layer {
  int64_t inputs, outputs;  // inputs counts h alone
  int64_t activation;
  bool residual, skip;
  T parameter;                     // the activation's parameter
  int64_t bias;                    // where its biases begin in a row of biases
  const T *forward, *to_h, *to_x;  // packed: W, and the transposes of its columns for h and for x
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
      bias_of_sample;     // from one row of biases to the next; 0 where all share one row
  bool neurons_in_lanes;  // for few samples; else samples are in the lanes
};

// Some samples of a batch at a step of a chain.
struct NetworkRows {
  int64_t first, count, step;
};

// A function of some samples' energies and scores, and room for its gradient. Without a kappa, the
// function is energy_above E + square E^2 or score_above . s of each sample. With a kappa, it is
// the loss weight (1/2 |kappa s + z|^2 + trace sum_k v_k . (slope of s) v_k); where `along` is set,
// sum_k (v_k . s)^2 takes the place of that square. A null pointer stands for an input that is not
// there or an output that is not wanted.
template <class T>
struct NetworkGradient {
  const T *x, *energy_above, *score_above;  // row by row, as the other inputs
  double square;
  const T *kappa, *weight, *z;
  T trace;
  bool along;
  int64_t directions, of_sample;  // of_sample: from one sample's directions to the next sample's
  const T* v;
  double* loss;
  bool differentiate;
  T *sums, *grad_x, *grad_biases;  // sums: over all samples so far
  int64_t biases;                  // numbers of a sample in grad_biases
};

template <class T>
struct NetworkKernels {
  int64_t lanes;                              // samples that fill the lanes
  bool (*neurons_in_lanes)(int64_t at_once);  // whether neurons should be, for at_once samples
  // packed: the numbers that a packed matrix takes; pack: packs the matrix w[output * output_stride
  // + input * input_stride].
  int64_t (*packed)(bool neurons_in_lanes, int64_t outputs, int64_t inputs);
  void (*pack)(bool neurons_in_lanes, int64_t outputs, int64_t inputs, const T* w, int64_t output_stride,
               int64_t input_stride, T* to);
  int64_t (*scratch)(const Network<T>&);
  // The scores and the energies of rows of x; either one may be null.
  void (*score)(const Network<T>&, NetworkRows, const T* x, T* scratch, T* score, double* energy);
  // The Hessian of the energies of rows of x, times v.
  int64_t (*scratch_of_hvp)(const Network<T>&);
  void (*hvp)(const Network<T>&, NetworkRows, const T* x, const T* v, T* scratch, T* out);
  // The gradient of a function of energies and scores: `gradient` adds to the sums of a part of the
  // batch, which are sums_of_gradient numbers; gather_gradient adds the sums of all parts and
  // writes them as params lie.
  int64_t (*scratch_of_gradient)(const Network<T>&, int64_t directions);
  int64_t (*sums_of_gradient)(const Network<T>&);
  void (*gradient)(const Network<T>&, NetworkRows, const NetworkGradient<T>&, T* scratch);
  void (*gather_gradient)(const Network<T>&, int64_t parts, const T* sums, T* out);
  // The trace of the energy's Hessian, one number per row. The scratch is that of hvp.
  void (*laplacian)(const Network<T>&, NetworkRows, const T* x, T* scratch, T* out);
};

}  // namespace pyebm
