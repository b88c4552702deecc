// The shape of a network, read from an op's layout (pyebm/_records/networks.py) and checked, and
// the place of each of its numbers in params.
#pragma once

#include <cstdint>

#include "fail.h"

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

// A layer gives y = act(W [h; x] + b) or, where it is residual, h + act(...). It takes x only where
// there is a skip.
struct LayerShape {
  int64_t inputs, outputs;  // inputs counts h alone
  int64_t activation;
  bool residual, skip;
  int64_t weights, bias, parameter;  // their places in params
  int64_t in_row;                    // the place of its biases in a row of all layers' biases
};

struct NetworkShape {
  bool is_energy;  // E(x) = the output + q |x|^2; else the output - 2 q x is the score
  int64_t dim, count;
  LayerShape layers[kMostLayers];
  int64_t outputs = 0;         // of all layers together: the length of a row of biases
  int64_t quadratic, numbers;  // the place of q in params, and how many params there are

  NetworkShape(const char* op, const int64_t* layout, int64_t length, int64_t samples, int64_t elements) {
    const int64_t* const end = layout + length;
    const auto next = [&](const char* what, int64_t low, int64_t high) {
      if (layout == end) fail(op, ": layout has fewer numbers than its layers ask for");
      if (*layout < low || *layout > high)
        fail(op, ": layout: ", what, " must be in [", low, ", ", high, "], got ", *layout);
      return *layout++;
    };
    is_energy = !next("kind", 0, 1);
    dim = next("dimensions", 1, kMostDim);
    count = next("layers", 1, kMostLayers);
    if (samples && elements != dim) fail(op, ": layout takes samples of ", dim, " elements, got ", elements);
    int64_t width = dim, at = 0;
    for (int64_t l = 0; l < count; ++l) {
      LayerShape& layer = layers[l];
      layer.inputs = width;
      layer.outputs = width = next("outputs", 1, l == count - 1 ? kMostDim : kMostWidth);
      layer.activation = next("activation", 0, kActivations - 1);
      layer.residual = next("residual", 0, 1);
      layer.skip = next("skip", 0, 1);
      if (layer.residual && layer.outputs != layer.inputs) {
        fail(op, ": layout: a residual layer must have as many outputs as inputs, got ", layer.outputs,
             " of ", layer.inputs);
      }
      layer.weights = at;
      layer.bias = at += layer.outputs * all_inputs(layer);
      layer.parameter = at += layer.outputs;
      layer.in_row = outputs;
      outputs += layer.outputs;
      ++at;
    }
    if (width != (is_energy ? 1 : dim)) {
      fail(op, ": layout: the last layer must have ", is_energy ? 1 : dim, " outputs, got ", width);
    }
    if (layout != end) fail(op, ": layout has more numbers than its layers ask for, by ", end - layout);
    quadratic = at;
    numbers = at + 1;
  }

  int64_t all_inputs(const LayerShape& layer) const { return layer.inputs + (layer.skip ? dim : 0); }

  void check_params(const char* op, int64_t given) const {
    if (given < numbers) fail(op, ": params has fewer numbers than the layout asks for");
    if (given > numbers) fail(op, ": params has more numbers than the layout asks for, by ", given - numbers);
  }
  void check_biases(const char* op, int64_t rows, int64_t columns, int64_t samples, int64_t n_steps,
                    bool per_step) const {
    if (columns == outputs && (rows == 1 || rows == (per_step ? n_steps : samples))) return;
    fail(op, ": biases must have one row of ", outputs, " for all or for each of ",
         per_step ? n_steps : samples, per_step ? " steps" : " samples", ", got ", rows * columns,
         " numbers");
  }
};

}  // namespace pyebm
