// The bodies behind ChunkKernels: included once by each level_*.cpp, after its target pragma. No
// include guard, no other includes: standard headers under a target pragma would leave illegal
// instructions in shared inline functions.
//
// Everything has internal linkage. The plain loops are left to the auto-vectoriser; noise_kernels.h
// is not.

namespace {

using pyebm::Bounds;
using pyebm::ChunkKernels;

template <bool kValue>
struct Flag {
  static constexpr bool value = kValue;
};

// Half precisions by integer arithmetic and exact scaling: the same bits with and without the
// machine's own conversions, which of float16 every level but the baseline has.
void from_bfloat16(const uint16_t* in, int64_t n, float* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) out[i] = bits_float(static_cast<uint32_t>(in[i]) << 16);
}

void to_bfloat16(const float* in, int64_t n, uint16_t* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = float_bits(in[i]);
    const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;  // to nearest, ties to even
    out[i] = static_cast<uint16_t>(in[i] == in[i] ? rounded : (bits >> 16) | 0x40u);  // NaN stays NaN
  }
}

void from_half(const uint16_t* in, int64_t n, float* out) {
  int64_t i = 0;
#if defined(PYEBM_PHILOX_LANES)
  for (constexpr int64_t kEach = kWidth<Wide<float>>; i + kEach <= n; i += kEach)
    store(out + i, of_halves(in + i));
#endif
  PYEBM_VECTOR_LOOP
  for (; i < n; ++i) {
    const uint32_t magnitude = in[i] & 0x7FFFu, sign = static_cast<uint32_t>(in[i] & 0x8000u) << 16;
    const uint32_t subnormal = float_bits(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);
    const uint32_t normal =
        (magnitude << 13) + (magnitude >= 0x7C00u ? 224u << 23 : 112u << 23);  // infinities, NaN; the rest
    const uint32_t quiet = magnitude > 0x7C00u ? 0x400000u : 0u;
    out[i] = bits_float((magnitude < 0x400u ? subnormal : normal) | sign | quiet);
  }
}

void to_half(const float* in, int64_t n, uint16_t* out) {
  int64_t i = 0;
#if defined(PYEBM_PHILOX_LANES)
  for (constexpr int64_t kEach = kWidth<Wide<float>>; i + kEach <= n; i += kEach)
    to_halves(load<Wide<float>>(in + i), out + i);
#endif
  PYEBM_VECTOR_LOOP
  for (; i < n; ++i) {
    const uint32_t bits = float_bits(in[i]), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    // Normal results: rebias, round to nearest even on the 13 bits that go. Carries run into the
    // exponent, up to infinity.
    const uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
    // Below 2^-14: adding 0.5 puts the result's last bit at the float's last bit, and the addition
    // rounds.
    const uint32_t subnormal = float_bits(bits_float(magnitude) + 0.5f) - 0x3F000000u;
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    const uint32_t large = magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u;
    out[i] = static_cast<uint16_t>(sign | (magnitude >= 0x47800000u ? large : finite));
  }
}

// A coefficient that is one number for all elements, to be indexed like a pointer to one number per
// element.
template <class T>
struct Same {
  T number;
  PYEBM_HD T operator[](int64_t) const { return number; }
};

template <class T, class Alpha, class Sigma>
PYEBM_HD void perturb_loop(int64_t n, const T* x, const float* z, Alpha alpha, Sigma sigma, T* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) out[i] = perturbed(x[i], static_cast<T>(z[i]), alpha[i], sigma[i]);
}

template <class T>
void perturb(int64_t n, const T* x, const float* z, T alpha, T sigma, T* out) {
  perturb_loop(n, x, z, Same<T>{alpha}, Same<T>{sigma}, out);
}

template <class T>
void perturb_each(int64_t n, const T* x, const float* z, const T* alpha, const T* sigma, T* out) {
  perturb_loop(n, x, z, alpha, sigma, out);
}

template <bool kMask, bool kMean, bool kBounds, class T, class A, class B>
void step_loop(int64_t n, const T* x, const T* g, const float* z, const uint8_t* mask, A a, B b, B c,
               Bounds<T> bounds, T* out, T* mean) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const T old = x[i];
    const T m = kBounds ? step_mean(old, g[i], a[i], b[i], bounds) : affine_mean(old, g[i], a[i], b[i]);
    const T value = kBounds ? step_value(m, static_cast<T>(z[i]), c[i], bounds)
                            : affine_value(m, static_cast<T>(z[i]), c[i]);
    out[i] = kMask && !mask[i] ? old : value;
    if (kMean) mean[i] = kMask && !mask[i] ? old : m;
  }
}

template <class T, class A, class B>
void step_by(int64_t n, const T* x, const T* g, const float* z, const uint8_t* mask, A a, B b, B c,
             Bounds<T> bounds, T* out, T* mean) {
  if (mask && mean) return step_loop<true, true, true>(n, x, g, z, mask, a, b, c, bounds, out, mean);
  if (mask) return step_loop<true, false, true>(n, x, g, z, mask, a, b, c, bounds, out, mean);
  if (mean) return step_loop<false, true, true>(n, x, g, z, mask, a, b, c, bounds, out, mean);
  if (are_set(bounds)) return step_loop<false, false, true>(n, x, g, z, mask, a, b, c, bounds, out, mean);
  step_loop<false, false, false>(n, x, g, z, mask, a, b, c, bounds, out, mean);
}

template <class T>
void step(int64_t n, const T* x, const T* g, const float* z, const uint8_t* mask, T a, T b, T c,
          Bounds<T> bounds, T* out, T* mean) {
  step_by(n, x, g, z, mask, Same<T>{a}, Same<T>{b}, Same<T>{c}, bounds, out, mean);
}

template <class T>
void step_each(int64_t n, const T* x, const T* g, const float* z, const uint8_t* mask, const T* a, const T* b,
               const T* c, Bounds<T> bounds, T* out, T* mean) {
  if (a) return step_by(n, x, g, z, mask, a, b, c, bounds, out, mean);
  step_by(n, x, g, z, mask, Same<T>{T(1)}, b, c, bounds, out, mean);
}

template <int kLength, class T>
void repeat_whole(int64_t n, const T* values, T* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    for (int k = 0; k < kLength; ++k) out[i * kLength + k] = values[i];
  }
}

template <class T>
void repeat(int64_t n, int64_t length, int64_t skip, const T* values, T* out) {
  if (skip == 0 && n % length == 0) {  // narrow samples, for which a loop each is too much
    if (length == 2) return repeat_whole<2>(n / 2, values, out);
    if (length == 3) return repeat_whole<3>(n / 3, values, out);
    if (length == 4) return repeat_whole<4>(n / 4, values, out);
  }
  for (int64_t i = 0, end = length - skip; i < n; end += length, ++values) {
    for (end = end < n ? end : n; i < end; ++i) out[i] = *values;
  }
}

// The flag has the width of the numbers, so that the loop vectorises.
template <class T>
bool all_within(int64_t n, const T* x, T least) {
  using Flag = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  Flag outside = 0;
  for (int64_t i = 0; i < n; ++i)
    outside |= ((x[i] >= least) & (x[i] <= std::numeric_limits<T>::max())) ? Flag{0} : Flag{1};
  return !outside;
}

// Calls body(i, row) for the elements i of each row; narrow rows, for which a loop each is too
// much, go side by side.
template <int kWidth, class Body>
PYEBM_HD void over_narrow_rows(int64_t rows, Body body) {
  PYEBM_VECTOR_LOOP
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t k = 0; k < kWidth; ++k) body(row * kWidth + k, row);
  }
}

template <class Body>
PYEBM_HD void over_rows(int64_t rows, int64_t width, Body body) {
  if (width == 1) return over_narrow_rows<1>(rows, body);
  if (width == 2) return over_narrow_rows<2>(rows, body);
  if (width == 3) return over_narrow_rows<3>(rows, body);
  if (width == 4) return over_narrow_rows<4>(rows, body);
  for (int64_t row = 0; row < rows; ++row) {
    PYEBM_VECTOR_LOOP
    for (int64_t i = row * width; i < (row + 1) * width; ++i) body(i, row);
  }
}

template <class T>
void moved(int64_t rows, int64_t width, const T* x, const T* v, const T* by, T* out) {
  over_rows(rows, width, [&](int64_t i, int64_t row) { out[i] = x[i] + by[row] * v[i]; });
}

template <class T>
void scaled(int64_t rows, int64_t width, const T* x, const T* by, T* out) {
  over_rows(rows, width, [&](int64_t i, int64_t row) { out[i] = x[i] * by[row]; });
}

// Chooses among rows that are one word each.
template <class Bits>
void choose_words(int64_t rows, const bool* chosen, const void* from, void* to) {
  typedef Bits __attribute__((may_alias)) Word;
  const uint8_t* flags = reinterpret_cast<const uint8_t*>(chosen);  // gcc does not vectorise bools here
  const Word* source = static_cast<const Word*>(from);
  Word* target = static_cast<Word*>(to);
  PYEBM_VECTOR_LOOP
  for (int64_t row = 0; row < rows; ++row)
    target[row] ^= (target[row] ^ source[row]) & (Bits(0) - Bits(flags[row]));
}

template <class T>
void choose_short(int64_t rows, int64_t width, const bool* chosen, const T* from, T* to) {
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  for (int64_t row = 0; row < rows; ++row) {
    const Bits mask = Bits(0) - Bits(chosen[row]);
    PYEBM_VECTOR_LOOP
    for (int64_t i = row * width; i < (row + 1) * width; ++i) {
      Bits old, fresh;
      memcpy(&old, to + i, sizeof old);
      memcpy(&fresh, from + i, sizeof fresh);
      old ^= (old ^ fresh) & mask;
      memcpy(to + i, &old, sizeof old);
    }
  }
}

// The processor can't predict which rows are chosen, so short rows are chosen by bit masks; for a
// long row a branch costs less than the copy that it may save.
template <class T>
void choose(int64_t rows, int64_t width, const bool* chosen, const T* from, T* to) {
  constexpr int64_t kLong = 4 * PYEBM_VECTOR_BYTES / sizeof(T);
  const int64_t bytes = width * static_cast<int64_t>(sizeof(T));
  if (bytes == 4) return choose_words<uint32_t>(rows, chosen, from, to);
  if (bytes == 8) return choose_words<uint64_t>(rows, chosen, from, to);
  if (width <= kLong) return choose_short(rows, width, chosen, from, to);
  for (int64_t row = 0; row < rows; ++row) {
    if (chosen[row]) memcpy(to + row * width, from + row * width, width * sizeof(T));
  }
}

template <class T, class Temperature>
void log_acceptances_at(int64_t n, const pyebm::Proposals<T>& of, Temperature temperature, double* out) {
  const double constant = of.constant;
  const double *energy = of.energy, *scale = of.scale;
  const T *before = of.before, *after = of.after;
  double* proposed = of.proposed;
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const double squares = static_cast<double>(before[i]) - static_cast<double>(after[i]);
    proposed[i] += constant;
    out[i] = log_acceptance(energy[i], proposed[i], temperature, squares, scale[i]);
  }
}

// x / 1 is x: at the usual temperature one division a sample is spared.
template <class T>
void log_acceptances(int64_t n, const pyebm::Proposals<T>& of, double* out) {
  if (of.temperature == 1) return log_acceptances_at(n, of, std::integral_constant<int, 1>(), out);
  log_acceptances_at(n, of, of.temperature, out);
}

// Most proposals of Metropolis' test are decided without the exponential. The processor can't
// predict which, so no branch depends on it.
int64_t accept_surely(int64_t n, const double* alpha, const float* uniforms, bool* accept, int16_t* open) {
  bool unsure[pyebm::kCalls];
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const double u = static_cast<double>(uniforms[i]);
    const bool surely = surely_accepts(alpha[i], u);
    accept[i] = surely;
    unsure[i] = !surely & !surely_refuses(alpha[i], u);
  }
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    open[count] = static_cast<int16_t>(i);
    count += unsure[i];
  }
  return count;
}

void add_flags(int64_t n, const bool* flags, int64_t* counts) {
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(flags);  // gcc does not vectorise a sum of bools
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) counts[i] += bytes[i];
}

void probabilities(int64_t n, const double* x, double* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) out[i] = probability(x[i]);
}

void exponentials(int64_t n, const double* x, double* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) out[i] = exponential(x[i]);
}

}  // namespace
