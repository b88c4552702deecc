// The scores behind ChunkKernels::targets; included once by each level, after chunk_kernels.h and under the same rules.

namespace {

using pyebm::kSumLanes;
using pyebm::Samples;
using pyebm::TargetOf;

template <template <class> class Target, class T>
struct Elementwise {
  static bool fits(int64_t, int64_t params) { return params == Target<T>::kScalars; }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    const Target<T> target(samples.params);
    const int64_t n = samples.rows * samples.width;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = target.score(x[i]);
  }

  static constexpr TargetOf<T> table() { return {true, fits, nullptr, nullptr, score}; }
};

// The vectors laid out as the samples are, so that the loop runs over all of them at once.
template <class T>
struct Gaussian {
  static bool fits(int64_t elements, int64_t params) { return params == 2 * elements; }
  static int64_t scratch(const Samples<T>& samples) { return 2 * samples.rows * samples.width; }

  static void prepare(const Samples<T>& samples) {
    T* out = samples.scratch;
    for (int64_t vector = 0; vector < 2; ++vector) {
      const T* in = samples.params + vector * samples.elements + samples.element;
      for (int64_t row = 0; row < samples.rows; ++row, out += samples.width) memcpy(out, in, samples.width * sizeof(T));
    }
  }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    const int64_t n = samples.rows * samples.width;
    const T *mean = samples.scratch, *precision = mean + n;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = gaussian_score(x[i], mean[i], precision[i]);
  }

  static constexpr TargetOf<T> table() { return {true, fits, scratch, prepare, score}; }
};

template <class T>
struct Polynomial {
  static bool fits(int64_t, int64_t params) { return params > 0; }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    const int64_t n = samples.rows * samples.width;
    const T* c = samples.params;
    for (int64_t i = 0; i < n; ++i) out[i] = c[samples.param_count - 1];
    for (int64_t k = samples.param_count - 2; k >= 0; --k) {
      PYEBM_VECTOR_LOOP
      for (int64_t i = 0; i < n; ++i) out[i] = polynomial_step(out[i], x[i], c[k]);
    }
  }

  static constexpr TargetOf<T> table() { return {true, fits, nullptr, nullptr, score}; }
};

// Where a sample begins and ends is looked up, so that the loop runs over all samples at once. It looks one element past both ends
// of the block, which has room there.
template <class T>
struct Neighbours {
  static bool fits(int64_t elements, int64_t params) { return params == Rosenbrock<T>::kScalars && elements >= 2; }
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
    const Rosenbrock<T> target(samples.params);
    const int64_t n = samples.rows * samples.width;
    const T *has_before = samples.scratch, *has_after = has_before + n;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = target.score(x[i - 1], x[i], x[i + 1], has_before[i] != 0, has_after[i] != 0);
  }

  static constexpr TargetOf<T> table() { return {false, fits, scratch, prepare, score}; }
};

// Halves the lanes until one is left.
template <class T>
PYEBM_HD T sum_of_lanes(T* lane, int64_t lanes) {
  for (int64_t half = lanes / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) lane[l] = lane[l] + lane[l + half];
  }
  return lane[0];
}

template <int kWidth, class T>
void sums_of_small(int64_t rows, const T* terms, T* sums) {
  constexpr int kLanesUsed = kWidth <= 2 ? kWidth : 4;  // the others are zero
  PYEBM_VECTOR_LOOP
  for (int64_t row = 0; row < rows; ++row) {
    T lane[4] = {};
    for (int l = 0; l < kWidth; ++l) lane[l] = terms[row * kWidth + l];
    sums[row] = sum_of_lanes(lane, kLanesUsed);
  }
}

// The sum of each row, in the order that kSumLanes promises.
template <class T>
void sums_of(int64_t rows, int64_t width, const T* terms, T* sums) {
  if (width == 1) return sums_of_small<1>(rows, terms, sums);
  if (width == 2) return sums_of_small<2>(rows, terms, sums);
  if (width == 3) return sums_of_small<3>(rows, terms, sums);
  if (width == 4) return sums_of_small<4>(rows, terms, sums);
  for (int64_t row = 0; row < rows; ++row, terms += width) {
    alignas(64) T lane[kSumLanes] = {};
    const int64_t whole = width / kSumLanes * kSumLanes;
    for (int64_t i = 0; i < whole; i += kSumLanes) {
      for (int64_t l = 0; l < kSumLanes; ++l) lane[l] = lane[l] + terms[i + l];
    }
    for (int64_t l = 0; l < width - whole; ++l) lane[l] = lane[l] + terms[whole + l];
    sums[row] = sum_of_lanes(lane, kSumLanes);
  }
}

// Each row's number at all of its elements.
template <class T>
void spread(int64_t rows, int64_t width, const T* numbers, T* out) {
  if (width == 2) {
    PYEBM_VECTOR_LOOP
    for (int64_t row = 0; row < rows; ++row) out[2 * row] = out[2 * row + 1] = numbers[row];
    return;
  }
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < width; ++i) out[row * width + i] = numbers[row];
  }
}

template <class T>
struct AckleySums {
  static bool fits(int64_t elements, int64_t params) { return params == Ackley<T>::kScalars && elements >= 1; }
  static int64_t scratch(const Samples<T>& samples) { return samples.rows * (3 * samples.width + 2); }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    const Ackley<T> target(samples.params);
    const int64_t rows = samples.rows, width = samples.width, n = rows * width;
    T *square = samples.scratch, *cosine = square + n, *sine = cosine + n, *pull = sine + n, *turn = pull + rows;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) {
      square[i] = x[i] * x[i];
      target.sine_and_cosine(x[i], sine[i], cosine[i]);
    }
    sums_of(rows, width, square, pull);
    sums_of(rows, width, cosine, turn);
    PYEBM_VECTOR_LOOP
    for (int64_t row = 0; row < rows; ++row) target.coefficients(pull[row], turn[row], T(width), pull[row], turn[row]);
    spread(rows, width, pull, square);
    spread(rows, width, turn, cosine);
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = target.score(x[i], sine[i], square[i], cosine[i]);
  }

  static constexpr TargetOf<T> table() { return {false, fits, scratch, nullptr, score}; }
};

template <class T>
struct FunnelSums {
  static bool fits(int64_t elements, int64_t params) { return params == Funnel<T>::kScalars && elements >= 2; }
  static int64_t scratch(const Samples<T>& samples) { return samples.rows * (samples.width + 2); }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    const Funnel<T> target(samples.params);
    const int64_t rows = samples.rows, width = samples.width, n = rows * width;
    T *square = samples.scratch, *squares = square + n, *inverse = squares + rows;
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) square[i] = x[i] * x[i];
    for (int64_t row = 0; row < rows; ++row) square[row * width] = 0;
    sums_of(rows, width, square, squares);
    PYEBM_VECTOR_LOOP
    for (int64_t row = 0; row < rows; ++row) inverse[row] = exponential(-x[row * width]);
    spread(rows, width, inverse, square);
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = target.other(x[i], square[i]);
    PYEBM_VECTOR_LOOP
    for (int64_t row = 0; row < rows; ++row) {
      out[row * width] = target.first(x[row * width], squares[row], inverse[row], T(width - 1));
    }
  }

  static constexpr TargetOf<T> table() { return {false, fits, scratch, nullptr, score}; }
};

// In the order of pyebm::Target.
#define PYEBM_TARGETS(T)                \
  {Elementwise<Harmonic, T>::table(),   \
   Elementwise<DoubleWell, T>::table(), \
   Gaussian<T>::table(),                \
   Polynomial<T>::table(),              \
   Elementwise<Rastrigin, T>::table(),  \
   Neighbours<T>::table(),              \
   AckleySums<T>::table(),              \
   FunnelSums<T>::table(),              \
   MixtureTarget<T, false>::table(),    \
   MixtureTarget<T, true>::table(),     \
   FullGaussian<T>::table()}

}  // namespace
