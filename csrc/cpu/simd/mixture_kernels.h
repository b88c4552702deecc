// The mixtures in the table of targets. Included once by each level, after mixture_tiles.h and
// mixture_single_sample.h.

namespace {

using pyebm::Samples;
using pyebm::TargetOf;

template <class T, bool kDiagonal>
struct MixtureTarget {
  static int64_t scratch(const Samples<T>& samples) {
    return (kDiagonal ? 3 : 2) * samples.width * kWidth<Wide<T>>;
  }

  static double cost(const Samples<T>& samples) {
    const Mixture<T, kDiagonal> mix(samples.width, samples.params, samples.param_count);
    return static_cast<double>(mix.components) * (kDiagonal ? 4 : 2);
  }

  static constexpr TargetOf<T> table() {
    return {false, scratch, nullptr, score, score_and_energy, kWidth<Wide<T>>, cost};
  }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    score_and_energy(samples, x, out, nullptr, nullptr);
  }

  static void score_and_energy(const Samples<T>& samples, const T* x, T* out, T*, double* energy) {
    const int64_t dim = samples.width;
    const Mixture<T, kDiagonal> mix(dim, samples.params, samples.param_count);
    const auto alone = [&](int64_t row) {
      mixture_at_one_sample(mix, x + row * dim, samples.scratch, out + row * dim,
                            energy ? energy + row : nullptr);
    };
    by_tiles<T>(samples.rows, can_be_alone(mix), alone, [&](auto vector, int64_t row, int64_t n) {
      using V = decltype(vector);
      const auto run = [&](auto dims) {
        mixture_tile<V, decltype(dims)::value>(mix, n, x + row * dim, samples.scratch, out + row * dim,
                                               energy ? energy + row : nullptr);
      };
      if (kDiagonal || dim > kFewDims) return run(Count<0>());
      if (dim == 1) return run(Count<1>());
      if (dim == 2) return run(Count<2>());
      if (dim == 3) return run(Count<3>());
      run(Count<4>());
    });
  }
};

template <class T>
using MixtureKernels = MixtureTarget<T, false>;
template <class T>
using MixtureDiagonalKernels = MixtureTarget<T, true>;

}  // namespace
