// A block's pass through a network, forward and back, for one tile of samples.
//
// A block's threads stand in 8 rows of 16. A thread has kRows neighbouring samples and 4 outputs of
// each 64. Which samples are computed together does not change their bits.
#pragma once

#include "network.h"
#include "network_math.h"

namespace pyebm {

// What a block has in its shared memory. The rest lies in global memory, and in the caches.
constexpr int kHoldsNone = 0, kHoldsValues = 1, kHoldsAll = 2;

// Copies a warp's share of the weights to `to`: those of the outputs warp, warp + warps, ...; with
// kBoth, in both orders.
template <bool kBoth, class T>
__device__ __forceinline__ void copy_weights(const DeviceNetwork<T>& net, int warp, int warps, T* to) {
#pragma unroll 1
  for (int output = warp; output < net.outputs; output += warps) {
    int l = 0, row = output;
    while (row >= net.layers[l].outputs) row -= net.layers[l++].outputs;
    const DeviceLayer& layer = net.layers[l];
    const int inputs = net.all_inputs(layer), pitch = pitch_of(layer.outputs);
    const T* from = net.params + layer.weights + static_cast<int64_t>(row) * inputs;
    T *of_h = to + layer.rows_h + row * pitch_of(layer.inputs),
      *of_x = to + layer.rows_x + row * pitch_of(net.dim);
    for (int i = static_cast<int>(threadIdx.x) % 32; i < inputs; i += 32) {
      const int at = i - layer.inputs;  // in x
      (at < 0 ? of_h[i] : of_x[at]) = from[i];
      if constexpr (kBoth)
        to[at < 0 ? layer.columns_h + i * pitch + row : layer.columns_x + at * pitch + row] = from[i];
    }
  }
}

template <class T, int kOwnRows, int kOwnHeld>
class NetworkTile {
 public:
  static constexpr int kHeld = kOwnHeld, kRows = kOwnRows, kSamples = kThreads / kAcross * kRows;

  // rooms: of kSamples samples. weights: as copy_weights leaves them, in both orders unless the
  // block holds them.
  __device__ __forceinline__ NetworkTile(const DeviceNetwork<T>& network, T* rooms, const T* weights)
      : net_(network),
        rooms_(rooms),
        weights_(weights),
        x_pitch_(pitch_of(network.dim)),
        first_row_(static_cast<int>(threadIdx.x) / kAcross * kRows),
        column_(static_cast<int>(threadIdx.x) % kAcross),
        quadratic_(network.params[network.quadratic]) {}

  __device__ __forceinline__ T* x(int row) const { return rooms_ + row * x_pitch_; }
  __device__ __forceinline__ T output(int row) const { return values(net_.count - 1)[row * net_.wide]; }

  // Calls body(row, element) for all elements of the tile's samples; each_group, body(row, group)
  // for all groups of four.
  template <class Body>
  __device__ __forceinline__ void each_element(Body body) const {
    each(net_.elements, body);
  }
  template <class Body>
  __device__ __forceinline__ void each_group(Body body) const {
    each(net_.groups, body);
  }

  // Takes an element of x, or four, for the next pass.
  __device__ __forceinline__ void take(int row, int element, T at) const {
    x(row)[element] = at;
    if (net_.is_energy) to_x(row)[element] = 2 * quadratic_ * at;
  }
  __device__ __forceinline__ void take(int row, int group, const T (&at)[4]) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) take(row, 4 * group + k, at[k]);
  }

  // Four elements of the score, after a pass.
  __device__ __forceinline__ void score(int row, int group, T (&out)[4]) const {
    if (net_.is_energy) {
      read(to_x(row) + 4 * group, out);
#pragma unroll
      for (int k = 0; k < 4; ++k) out[k] = T(-1) * out[k];
      return;
    }
    read(values(net_.count - 1) + row * net_.wide + 4 * group, out);
    if (quadratic_ == T(0)) return;
    T at[4];
    read(x(row) + 4 * group, at);
#pragma unroll
    for (int k = 0; k < 4; ++k) out[k] = fused(-2 * quadratic_, at[k], out[k]);
  }

  // Goes forward through the first `layers` layers. first: the tile's first sample of all
  // `samples`. kCurved: it keeps the activations' second derivatives too.
  template <bool kCurved = false>
  __device__ __forceinline__ void forward(int layers, int64_t step, int64_t first, int64_t samples) const {
    go_forward(
        layers, rooms_,
        [&](const DeviceLayer& layer, int tile, T(&sum)[kRows][kSide]) {
          const T* const biases = net_.biases + layer.bias + step * net_.bias_of_step;
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
            const int64_t sample = first + first_row_ + r < samples ? first + first_row_ + r : samples - 1;
#pragma unroll
            for (int c = 0; c < kSide; ++c)
              sum[r][c] = biases[sample * net_.bias_of_sample + within_layer(layer, tile, c)];
          }
        },
        [&](const DeviceLayer& layer, int l, int tile, const T* h, int pitch, const T(&sum)[kRows][kSide]) {
          finish<kCurved>(layer, l, tile, h, pitch, sum);
        });
  }

  // Goes back to x, after a pass forward through `layers` layers: all, or all but the last.
  __device__ __forceinline__ void backward(int layers) const {
    const int last = net_.count - 1;
    if (threadIdx.x < kSamples) {  // the derivative of the energy with respect to itself
      if (layers == last) slopes(last)[threadIdx.x * pitch_of(1)] = 1;
      if (net_.layers[last].residual) values(0)[threadIdx.x * net_.wide] = 1;
    }
    __syncthreads();
    // A layer's slopes become the derivative with respect to its sums.
    go_back<true>([&](int l) { return slopes(l); },
                  [&](int l, int at, const T(&sum)[kSide]) {
                    T slope[kSide];
                    read(slopes(l) + at, slope);
#pragma unroll
                    for (int c = 0; c < kSide; ++c) slope[c] = sum[c] * slope[c];
                    write(slopes(l) + at, slope);
                  });
  }

 protected:
  // Takes x, or its derivative along a line, through the first `layers` layers. begin(layer, tile,
  // sum): what the sums of a tile of outputs begin with; end(layer, l, tile, h, h's pitch, sum):
  // writes these outputs.
  template <class Begin, class End>
  __device__ __forceinline__ void go_forward(int layers, const T* x, Begin begin, End end) const {
#pragma unroll 1
    for (int l = 0; l < layers; ++l) {
      const DeviceLayer& layer = net_.layers[l];
      const T* const h = l ? values(l - 1) : x;
      const int pitch = l ? net_.wide : x_pitch_;
#pragma unroll 1
      for (int tile = 0; tile < layer.outputs; tile += kTile) {
        if (place(tile, 0) >= layer.outputs) break;
        T sum[kRows][kSide];
        begin(layer, tile, sum);
        multiply_forward(layer, h, pitch, layer.inputs, layer.rows_h, layer.columns_h, tile, sum);
        if (layer.skip)
          multiply_forward(layer, x, x_pitch_, net_.dim, layer.rows_x, layer.columns_x, tile, sum);
        end(layer, l, tile, h, pitch, sum);
      }
      __syncthreads();
    }
  }

  // Goes back from the last layer to x or, without kToX, to the first layer's outputs. pulled(l):
  // the derivative with respect to the sums of layer l; take(l, at, sum): makes it for four outputs
  // of layer l, `at` numbers into its rows, of the derivative with respect to these. That of a
  // residual last layer is in values(0).
  template <bool kToX, class Pulled, class Take>
  __device__ __forceinline__ void go_back(Pulled pulled, Take take) const {
    int now = 0;  // the row that has the derivative with respect to a residual layer's outputs
#pragma unroll 1
    for (int l = net_.count - 1; l >= (kToX ? 0 : 1); --l, now ^= 1) {
      const DeviceLayer& layer = net_.layers[l];
      const T* const g = pulled(l);
      const int pitch = pitch_of(layer.outputs), inputs_pitch = pitch_of(layer.inputs);
      if (kToX && layer.skip && l) {
#pragma unroll 1
        for (int d = kSide * column_; d < net_.dim; d += kTile) {
          T sum[kRows][kSide];
          each_row([&](int r, int row) { read(to_x(row) + d, sum[r]); });
          multiply_by_columns(g + first_row_ * pitch, pitch, layer.outputs, weights_ + layer.rows_x + d,
                              x_pitch_, sum);
          each_row([&](int r, int row) { write(to_x(row) + d, sum[r]); });
        }
      }
#pragma unroll 1
      for (int i = kSide * column_; i < layer.inputs; i += kTile) {
        T sum[kRows][kSide];
        each_row([&](int r, int row) {
          T above[kSide] = {};
          if (l == 0) read(to_x(row) + i, above);
#pragma unroll
          for (int c = 0; c < kSide; ++c)
            sum[r][c] = layer.residual ? above[c] + values(now)[row * net_.wide + i + c] : above[c];
        });
        multiply_by_columns(g + first_row_ * pitch, pitch, layer.outputs, weights_ + layer.rows_h + i,
                            inputs_pitch, sum);
        if (l == 0) {
          if (layer.skip)
            multiply_by_columns(g + first_row_ * pitch, pitch, layer.outputs, weights_ + layer.rows_x + i,
                                x_pitch_, sum);
          each_row([&](int r, int row) { write(to_x(row) + i, sum[r]); });
          continue;
        }
        each_row([&](int r, int row) {
          if (net_.layers[l - 1].residual) write(values(now ^ 1) + row * net_.wide + i, sum[r]);
          take(l - 1, row * inputs_pitch + i, sum[r]);
        });
      }
      __syncthreads();
    }
  }

  template <class Body>
  __device__ __forceinline__ void each(const Divider& parts, Body body) const {
    const auto count = kSamples * static_cast<uint32_t>(parts.divisor);
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < count; i += kThreads) {
      const uint32_t row = parts.divide_small(i);
      body(static_cast<int>(row), static_cast<int>(i + row * parts.minus));
    }
  }

  static constexpr bool kByRows = kHeld == kHoldsAll;

  // A sample's room: x, the derivative with respect to x, the layers' slopes; at the end, two rows
  // of values. Each lies beside that of the tile's other samples.
  __device__ __forceinline__ T* to_x(int row) const { return rooms_ + (kSamples + row) * x_pitch_; }
  __device__ __forceinline__ T* slopes(int l) const { return rooms_ + kSamples * net_.layers[l].slopes; }
  // The further rows of a layer that second derivatives need (network_hvp.cu), k = 1, 2 or 3.
  __device__ __forceinline__ T* beside_slopes(int l, int k) const {
    return slopes(l) + k * kSamples * pitch_of(net_.layers[l].outputs);
  }
  __device__ __forceinline__ T* values(int l) const {
    return rooms_ + kSamples * (net_.room - (1 + (l & 1)) * net_.wide);
  }

  template <class Body>
  __device__ __forceinline__ void each_row(Body body) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) body(r, first_row_ + r);
  }

  // The thread's c-th output of a tile; and the last output in place of one that does not exist.
  __device__ __forceinline__ int place(int tile, int c) const {
    return tile + (kByRows ? column_ + kAcross * c : kSide * column_ + c);
  }
  __device__ __forceinline__ int within_layer(const DeviceLayer& layer, int tile, int c) const {
    const int output = place(tile, c);
    return output < layer.outputs ? output : layer.outputs - 1;
  }

  __device__ __forceinline__ void multiply_forward(const DeviceLayer& layer, const T* h, int h_pitch,
                                                   int inputs, int rows, int columns, int tile,
                                                   T (&sum)[kRows][kSide]) const {
    h += first_row_ * h_pitch;
    if constexpr (kByRows) {
      const T* w[kSide];
#pragma unroll
      for (int c = 0; c < kSide; ++c)
        w[c] = weights_ + rows + within_layer(layer, tile, c) * pitch_of(inputs);
      multiply_by_rows(h, h_pitch, inputs, w, sum);
    } else {
      multiply_by_columns(h, h_pitch, inputs, weights_ + columns + place(tile, 0), pitch_of(layer.outputs),
                          sum);
    }
  }

  // Writes a thread's outputs and slopes. One row after another is activated, from memory: code for
  // all of them at once would be kRows times as long.
  template <bool kCurved>
  __device__ __forceinline__ void finish(const DeviceLayer& layer, int l, int tile, const T* h, int h_pitch,
                                         const T (&sum)[kRows][kSide]) const {
    T* const out = values(l);
    const T parameter = net_.params[layer.parameter];
    each_row([&](int r, int row) {
#pragma unroll
      for (int c = 0; c < kSide; ++c)
        if (place(tile, c) < layer.outputs) out[row * net_.wide + place(tile, c)] = sum[r][c];
    });
#pragma unroll 1
    for (int row = first_row_; row < first_row_ + kRows; ++row) {
      T value[kSide], slope[kSide], curve[kSide];
#pragma unroll
      for (int c = 0; c < kSide; ++c)  // only the thread's own: others are writing theirs
        value[c] = out[row * net_.wide + place(tile, place(tile, c) < layer.outputs ? c : 0)];
      activate(layer.activation, parameter, value, slope, curve);
#pragma unroll
      for (int c = 0; c < kSide; ++c) {
        const int at = place(tile, c);
        if (at >= layer.outputs) break;
        out[row * net_.wide + at] = layer.residual ? value[c] + h[row * h_pitch + at] : value[c];
        if (net_.is_energy) slopes(l)[row * pitch_of(layer.outputs) + at] = slope[c];
        if constexpr (kCurved) beside_slopes(l, 1)[row * pitch_of(layer.outputs) + at] = curve[c];
      }
    }
  }

  const DeviceNetwork<T>& net_;
  T* const rooms_;
  const T* const weights_;
  const int x_pitch_, first_row_, column_;
  const T quadratic_;
};

}  // namespace pyebm
