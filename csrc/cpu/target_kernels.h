// The scores behind ChunkKernels::targets; included once by each level, after chunk_kernels.h and under the same rules.

namespace {

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

// In the order of pyebm::Target.
#define PYEBM_TARGETS(T) {Elementwise<Harmonic, T>::table(), Elementwise<DoubleWell, T>::table()}

}  // namespace
