// The scores and energies behind ChunkKernels::targets; included once by each level, after
// target_sums.h.

namespace {

using pyebm::Samples;
using pyebm::TargetOf;
using pyebm::TargetTable;

template <template <class> class Target, class T>
struct ElementwiseKernels {
  static void score(const Samples<T>& samples, const T* x, T* out) {
    const Target<T> target = unpacked<Target>(samples.params);
    const int64_t n = samples.rows * samples.width;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = target.score(x[i]);
  }

  static void score_and_energy(const Samples<T>& samples, const T* x, T* out, T* room, double* energy) {
    const Target<T> target = unpacked<Target>(samples.params);
    const int64_t n = samples.rows * samples.width;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) {
      out[i] = target.score(x[i]);
      room[i] = target.energy(x[i]);
    }
    energies_of(samples.rows, samples.width, room, room + n, energy);
  }

  static constexpr TargetOf<T> table() { return {true, nullptr, nullptr, score, score_and_energy}; }
};

// The mean and the precision are laid out as the samples are, so that one loop runs over all
// samples at once.
template <class T>
struct GaussianKernels {
  static int64_t scratch(const Samples<T>& samples) { return 2 * samples.rows * samples.width; }

  static void prepare(const Samples<T>& samples) {
    T* out = samples.scratch;
    for (int64_t vector = 0; vector < 2; ++vector) {
      const T* in = samples.params + vector * samples.elements + samples.element;
      for (int64_t row = 0; row < samples.rows; ++row, out += samples.width)
        memcpy(out, in, samples.width * sizeof(T));
    }
  }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    const int64_t n = samples.rows * samples.width;
    const T *mean = samples.scratch, *precision = mean + n;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = gaussian_score(x[i], mean[i], precision[i]);
  }

  static void score_and_energy(const Samples<T>& samples, const T* x, T* out, T* room, double* energy) {
    const int64_t n = samples.rows * samples.width;
    const T *mean = samples.scratch, *precision = mean + n;
    score(samples, x, out);
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) room[i] = gaussian_energy(x[i], mean[i], precision[i]);
    energies_of(samples.rows, samples.width, room, room + n, energy);
  }

  static constexpr TargetOf<T> table() { return {true, scratch, prepare, score, score_and_energy}; }
};

template <class T>
struct PolynomialKernels {
  static void score(const Samples<T>& samples, const T* x, T* out) {
    const int64_t n = samples.rows * samples.width;
    const T* c = samples.params;
    for (int64_t i = 0; i < n; ++i) out[i] = c[samples.param_count - 1];
    for (int64_t k = samples.param_count - 2; k >= 0; --k) {
      PYEBM_VECTOR_LOOP
      for (int64_t i = 0; i < n; ++i) out[i] = polynomial_step(out[i], x[i], c[k]);
    }
  }

  static void score_and_energy(const Samples<T>& samples, const T* x, T* out, T* room, double* energy) {
    const int64_t n = samples.rows * samples.width, last = samples.param_count - 1;
    const T* c = samples.params;
    score(samples, x, out);
    for (int64_t i = 0; i < n; ++i) room[i] = c[last] / T(-last - 1);
    for (int64_t k = last - 1; k >= -1; --k) {
      const T coefficient = k < 0 ? T(0) : c[k] / T(-k - 1);
      PYEBM_VECTOR_LOOP
      for (int64_t i = 0; i < n; ++i) room[i] = polynomial_step(room[i], x[i], coefficient);
    }
    energies_of(samples.rows, samples.width, room, room + n, energy);
  }

  static constexpr TargetOf<T> table() { return {true, nullptr, nullptr, score, score_and_energy}; }
};

// The scratch marks where a sample begins and ends, so that one loop runs over all samples at once.
// The loop looks one element past both ends of the block, which has room there.
template <class T>
struct RosenbrockKernels {
  static int64_t scratch(const Samples<T>& samples) { return 2 * samples.rows * samples.width; }

  static void prepare(const Samples<T>& samples) {
    const int64_t n = samples.rows * samples.width;
    T *has_before = samples.scratch, *has_after = has_before + n;
    for (int64_t i = 0; i < 2 * n; ++i) samples.scratch[i] = 1;
    for (int64_t row = 0; row < samples.rows; ++row) {
      has_before[row * samples.width] = 0;
      has_after[(row + 1) * samples.width - 1] = 0;
    }
  }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    const Rosenbrock<T> target = unpacked<Rosenbrock>(samples.params);
    const int64_t n = samples.rows * samples.width;
    const T *has_before = samples.scratch, *has_after = has_before + n;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i)
      out[i] = target.score(x[i - 1], x[i], x[i + 1], has_before[i] != 0, has_after[i] != 0);
  }

  static void score_and_energy(const Samples<T>& samples, const T* x, T* out, T* room, double* energy) {
    const Rosenbrock<T> target = unpacked<Rosenbrock>(samples.params);
    const int64_t n = samples.rows * samples.width;
    const T* has_after = samples.scratch + n;
    score(samples, x, out);
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) room[i] = has_after[i] != 0 ? target.energy(x[i], x[i + 1]) : T(0);
    energies_of(samples.rows, samples.width, room, room + n, energy);
  }

  static constexpr TargetOf<T> table() { return {false, scratch, prepare, score, score_and_energy}; }
};

template <class T>
struct AckleyKernels {
  static int64_t scratch(const Samples<T>& samples) { return samples.rows * (3 * samples.width + 2); }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    score_and_energy(samples, x, out, nullptr, nullptr);
  }

  static void score_and_energy(const Samples<T>& samples, const T* x, T* out, T*, double* energy) {
    const Ackley<T> target = unpacked<Ackley>(samples.params);
    const int64_t rows = samples.rows, width = samples.width, n = rows * width;
    T *square = samples.scratch, *cosine = square + n, *sine = cosine + n, *pull = sine + n,
      *turn = pull + rows;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) {
      square[i] = x[i] * x[i];
      target.sine_and_cosine(x[i], sine[i], cosine[i]);
    }
    sums_of(rows, width, square, pull);
    sums_of(rows, width, cosine, turn);
    if (energy) {
      PYEBM_VECTOR_LOOP
      for (int64_t row = 0; row < rows; ++row) energy[row] = target.energy(pull[row], turn[row], T(width));
    }
    PYEBM_VECTOR_LOOP
    for (int64_t row = 0; row < rows; ++row)
      target.coefficients(pull[row], turn[row], T(width), pull[row], turn[row]);
    spread(rows, width, pull, square);
    spread(rows, width, turn, cosine);
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = target.score(x[i], sine[i], square[i], cosine[i]);
  }

  static constexpr TargetOf<T> table() { return {false, scratch, nullptr, score, score_and_energy}; }
};

template <class T>
struct FunnelKernels {
  static int64_t scratch(const Samples<T>& samples) { return samples.rows * (samples.width + 2); }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    score_and_energy(samples, x, out, nullptr, nullptr);
  }

  static void score_and_energy(const Samples<T>& samples, const T* x, T* out, T*, double* energy) {
    const Funnel<T> target = unpacked<Funnel>(samples.params);
    const int64_t rows = samples.rows, width = samples.width, n = rows * width;
    T *square = samples.scratch, *squares = square + n, *inverse = squares + rows;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) square[i] = x[i] * x[i];
    for (int64_t row = 0; row < rows; ++row) square[row * width] = 0;
    sums_of(rows, width, square, squares);
    PYEBM_VECTOR_LOOP
    for (int64_t row = 0; row < rows; ++row) inverse[row] = exponential(-x[row * width]);
    if (energy) {
      PYEBM_VECTOR_LOOP
      for (int64_t row = 0; row < rows; ++row) {
        energy[row] = target.energy(x[row * width], squares[row], inverse[row], T(width - 1));
      }
    }
    spread(rows, width, inverse, square);
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = target.other(x[i], square[i]);
    PYEBM_VECTOR_LOOP
    for (int64_t row = 0; row < rows; ++row) {
      out[row * width] = target.first(x[row * width], squares[row], inverse[row], T(width - 1));
    }
  }

  static constexpr TargetOf<T> table() { return {false, scratch, nullptr, score, score_and_energy}; }
};

// A line of PYEBM_TARGETS leads to the kernels of the target's name.
#define PYEBM_ELEMENTWISE_ROW(Name, ...) ElementwiseKernels<Name, T>::table(),
#define PYEBM_ROW(Name, ...) Name##Kernels<T>::table(),
template <class T>
constexpr TargetTable<T> target_table() {
  return {{PYEBM_TARGETS(PYEBM_ELEMENTWISE_ROW, PYEBM_ROW, PYEBM_ROW, PYEBM_ROW)}};
}

}  // namespace
