// A network as its kernels take it: layers of weights that network_pack.h has laid out, run by network_kernels.h at each SIMD
// level.
#pragma once

#include <cstdint>

namespace pyebm {

// As in pyebm/_schemas.py ACTIVATIONS.
enum Activation : int64_t { kIdentity, kSilu, kTanh, kSoftplus, kSigmoid, kGelu, kGeluTanh, kElu, kRelu, kLeakyRelu, kActivations };

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
  bool is_energy;  // E(x) = the output + q |x|^2, whose score is -grad E; else the output - 2 q x is the score
  int64_t dim, count;
  Layer<T> layers[kMostLayers];
  T quadratic;
  const T* biases;
  int64_t bias_of_step, bias_of_sample;  // from one's row of biases to the next one's; 0 where all have the same
  bool neurons_in_lanes;                 // for few samples; else the samples are
};

// Some samples of a batch at a step of a chain.
struct NetworkRows {
  int64_t first, count, step;
};

template <class T>
struct NetworkKernels {
  int64_t lanes;                              // samples that fill the lanes
  bool (*neurons_in_lanes)(int64_t at_once);  // is that better, for so many samples?
  // Numbers of a packed matrix, and the packing: of w[output * output_stride + input * input_stride].
  int64_t (*packed)(bool neurons_in_lanes, int64_t outputs, int64_t inputs);
  void (*pack)(bool neurons_in_lanes, int64_t outputs, int64_t inputs, const T* w, int64_t output_stride, int64_t input_stride,
               T* to);
  int64_t (*scratch)(const Network<T>&);
  // The score of rows of x, and their energies unless null.
  void (*score)(const Network<T>&, NetworkRows, const T* x, T* scratch, T* score, double* energy);
  // The Hessian of the energies of rows of x, times v.
  int64_t (*scratch_of_hvp)(const Network<T>&);
  void (*hvp)(const Network<T>&, NetworkRows, const T* x, const T* v, T* scratch, T* out);
  // Its trace, one a row, by the same scratch.
  void (*laplacian)(const Network<T>&, NetworkRows, const T* x, T* scratch, T* out);
};

}  // namespace pyebm
