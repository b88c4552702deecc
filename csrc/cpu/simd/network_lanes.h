// Activations of some samples in the lanes of vectors, and products of matrices with them. Where
// samples are many, each sample has a lane; where they are few, each neuron has one. Included once
// by each level, after sample_tiles.h.
//
// An output is one chain of fused multiply-adds, which starts from the number that is there already
// (a bias) and takes the inputs in their order. Neither the choice of lanes nor the outputs
// computed beside it change that chain. So a sample's bits depend on nothing but the sample.

namespace {

// Calls body(Count, first) for kMost, 4, 2 or 1 at once until n are done.
template <int kMost, class Body>
PYEBM_HD void by_groups(int64_t n, Body body, int64_t first = 0) {
  for (; first + kMost <= n; first += kMost) body(Count<kMost>(), first);
  if constexpr (kMost > 1) by_groups<(kMost > 4 ? 4 : kMost / 2)>(n, body, first);
}

// Says of a product that nothing lies in `out` yet: its sums begin at 0, and `out` is not read.
constexpr bool kFresh = true;

// Adds vectors[v] broadcast[b] to out[b][v] for all inputs. From one input to the next, `vectors`
// moves on by `step` numbers and `broadcast` by `broadcast_step`. There is at least one input, as
// NetworkShape makes sure: if the loop could be skipped, gcc would keep each sum twice and copy it
// through the stack.
template <class V, int kBroadcast, int kVectors, class T>
PYEBM_HD void multiply_add(int64_t inputs, const T* vectors, int64_t step, const T* broadcast,
                           int64_t broadcast_step, int64_t apart, T* out, int64_t out_apart,
                           bool fresh = false) {
  V sum[kBroadcast][kVectors] = {};
  if (!fresh) {
    PYEBM_UNROLL
    for (int b = 0; b < kBroadcast; ++b) {
      PYEBM_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[b][v] = load<V>(out + b * out_apart + v * kWidth<V>);
    }
  }
  do {
    V each[kVectors];
    PYEBM_UNROLL
    for (int v = 0; v < kVectors; ++v) each[v] = load<V>(vectors + v * kWidth<V>);
    PYEBM_UNROLL
    for (int b = 0; b < kBroadcast; ++b) {
      const V number = all<V>(broadcast[b * apart]);
      PYEBM_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[b][v] = fma(number, each[v], sum[b][v]);
    }
    vectors += step, broadcast += broadcast_step;
  } while (--inputs);
  PYEBM_UNROLL
  for (int b = 0; b < kBroadcast; ++b) {
    PYEBM_UNROLL
    for (int v = 0; v < kVectors; ++v) store(out + b * out_apart + v * kWidth<V>, sum[b][v]);
  }
}

// A packed matrix: its outputs in groups of units, and in each group, input by input, the weights
// of the group's outputs.
template <class T, int kMost, int64_t kUnit>
struct Packed {
  template <class Body>
  static PYEBM_HD void by_outputs(int64_t outputs, Body body) {
    by_groups<kMost>((outputs + kUnit - 1) / kUnit, body);
  }

  static int64_t size(int64_t outputs, int64_t inputs) {
    return (outputs + kUnit - 1) / kUnit * kUnit * inputs;
  }

  static void pack(int64_t outputs, int64_t inputs, const T* w, int64_t output_stride, int64_t input_stride,
                   T* to) {
    by_outputs(outputs, [&](auto count, int64_t unit) {
      constexpr int64_t kGroup = decltype(count)::value * kUnit;
      using V = std::conditional_t<kUnit == 1, Least<T>, Wide<T>>;
      const int64_t first = unit * kUnit;
      const T* from = w + first * output_stride;
      if (output_stride == 1 && first + kGroup <= outputs) {
        for (int64_t i = 0; i < inputs; ++i)
          memcpy(to + i * kGroup, from + i * input_stride, kGroup * sizeof(T));
      } else if (input_stride == 1 && kGroup % kWidth<V> == 0) {
        for (int64_t j = 0; j < kGroup;
             j += kWidth<V>) {  // the group may end past the last output: it then repeats that output
          const int64_t output = first + j < outputs ? j : outputs - 1 - first;
          to_lanes<V>(outputs - first - output, inputs, from + output * output_stride, output_stride, to + j,
                      kGroup, [&](V x, int64_t) { return x; });
        }
      } else {
        for (int64_t i = 0; i < inputs; ++i) {
          for (int64_t j = 0; j < kGroup; ++j) {
            to[i * kGroup + j] = first + j < outputs ? from[j * output_stride + i * input_stride] : T(0);
          }
        }
      }
      to += inputs * kGroup;
    });
  }
};

constexpr bool kManyRegisters = PYEBM_VECTOR_BYTES == 64;

// Samples are in the lanes, kVectors vectors of them. A neuron's numbers lie together; `width` is
// not needed.
template <class T, int kVectors>
struct SampleLanes {
  using V = Wide<T>;
  using Matrix = Packed<T, kManyRegisters ? 8 : 6, 1>;
  static constexpr int64_t kSamples = kVectors * kWidth<V>;
  int64_t width;

  static int64_t rounded(int64_t neurons) { return neurons; }
  static T* at(T* values, int64_t neuron) { return values + neuron * kSamples; }

  // Calls body(at, n) for each run of numbers that holds the `neurons` neurons.
  template <class Body>
  PYEBM_HD void each(int64_t neurons, Body body) const {
    body(0, neurons * kSamples);
  }

  // Reads samples into the lanes: `neurons` numbers of each, which begin `stride` numbers apart.
  void read(int64_t rows, int64_t neurons, const T* from, int64_t stride, T* to) const {
    for (int64_t v = 0; v < kVectors; ++v) {
      const int64_t first = v * kWidth<V> < rows ? v * kWidth<V> : rows - 1;
      to_lanes<V>(rows - first, neurons, from + first * stride, stride, to + v * kWidth<V>, kSamples,
                  [&](V x, int64_t) { return x; });
    }
  }
  void write(int64_t rows, int64_t neurons, const T* from, T* to) const {
    for (int64_t first = 0; first < rows; first += kWidth<V>) {
      const int64_t n = rows - first < kWidth<V> ? rows - first : kWidth<V>;
      from_lanes<V>(n, neurons, from + first, to + first * neurons, kSamples);
    }
  }
  // Returns the samples as rows of numbers, each `row` numbers after the one before, copied to
  // `room` where they lie in lanes.
  const T* rows(int64_t count, int64_t neurons, const T* from, T* room, int64_t& row) const {
    write(count, row = neurons, from, room);
    return room;
  }
  static int64_t of_neuron() { return kSamples; }  // from one neuron's numbers to the next neuron's
  static int64_t of_sample() { return 1; }
  void copy(int64_t neurons, const T* from, T* to) const { memcpy(to, from, neurons * kSamples * sizeof(T)); }
  // Fills the lanes with the same numbers for all samples.
  void fill(int64_t neurons, const T* numbers, T* to) const {
    for (int64_t j = 0; j < neurons; ++j) {
      PYEBM_UNROLL
      for (int v = 0; v < kVectors; ++v) store(to + j * kSamples + v * kWidth<V>, all<V>(numbers[j]));
    }
  }

  void multiply_add(int64_t outputs, int64_t inputs, const T* matrix, const T* x, T* out,
                    bool fresh = false) const {
    Matrix::by_outputs(outputs, [&](auto count, int64_t first) {
      constexpr int kGroup = decltype(count)::value;
      ::multiply_add<V, kGroup, kVectors>(inputs, x, kSamples, matrix, kGroup, 1, out + first * kSamples,
                                          kSamples, fresh);
      matrix += inputs * kGroup;
    });
  }
};

// Neurons are in the lanes, for kCount samples. The numbers of a sample lie together, `width` of
// them.
template <class T, int kCount>
struct NeuronLanes {
  using V = Wide<T>;
  using Matrix = Packed<T, 4, kWidth<V>>;
  static constexpr int64_t kSamples = kCount;
  int64_t width;

  static int64_t rounded(int64_t neurons) { return (neurons + kWidth<V> - 1) / kWidth<V> * kWidth<V>; }
  static T* at(T* values, int64_t neuron) { return values + neuron; }

  template <class Body>
  PYEBM_HD void each(int64_t neurons, Body body) const {
    for (int r = 0; r < kCount; ++r) body(r * width, rounded(neurons));
  }

  void read(int64_t rows, int64_t neurons, const T* from, int64_t stride, T* to) const {
    for (int64_t r = 0; r < kCount; ++r)
      memcpy(to + r * width, from + (r < rows ? r : rows - 1) * stride, neurons * sizeof(T));
  }
  void write(int64_t rows, int64_t neurons, const T* from, T* to) const {
    for (int64_t r = 0; r < rows; ++r) memcpy(to + r * neurons, from + r * width, neurons * sizeof(T));
  }
  const T* rows(int64_t, int64_t, const T* from, T*, int64_t& row) const {
    row = width;
    return from;
  }
  static int64_t of_neuron() { return 1; }
  int64_t of_sample() const { return width; }
  void copy(int64_t neurons, const T* from, T* to) const {
    for (int64_t r = 0; r < kCount; ++r) memcpy(to + r * width, from + r * width, neurons * sizeof(T));
  }
  void fill(int64_t neurons, const T* numbers, T* to) const { read(1, neurons, numbers, 0, to); }

  void multiply_add(int64_t outputs, int64_t inputs, const T* matrix, const T* x, T* out,
                    bool fresh = false) const {
    Matrix::by_outputs(outputs, [&](auto count, int64_t first) {
      constexpr int kGroup = decltype(count)::value;
      constexpr int64_t kOutputs = kGroup * kWidth<V>;
      ::multiply_add<V, kCount, kGroup>(inputs, matrix, kOutputs, x, 1, width, out + first * kWidth<V>, width,
                                        fresh);
      matrix += inputs * kOutputs;
    });
  }
};

}  // namespace
