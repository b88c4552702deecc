// Vectors of the level's width, for kernels that can't be left to the auto-vectoriser. Included
// once by each level_*.cpp, which defines PYEBM_VECTOR_BYTES, under the rules of chunk_kernels.h.
// The arithmetic is that of GCC's and clang's vector types.

namespace {

#if defined(__clang__)
#define PYEBM_UNROLL _Pragma("unroll")
#else
#define PYEBM_UNROLL _Pragma("GCC unroll 16")
#endif

template <class T, int kBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};

// Wide is the level's widest vector. Narrow, of at most 32 bytes, serves work that does not fill a
// wide one. Least has 16 bytes.
template <class T>
using Wide = typename VectorOf<T, PYEBM_VECTOR_BYTES>::type;
template <class T>
using Narrow = typename VectorOf<T, PYEBM_VECTOR_BYTES == 64 ? 32 : PYEBM_VECTOR_BYTES>::type;
template <class T>
using Least = typename VectorOf<T, 16>::type;

template <class V>
using Element = std::decay_t<decltype(std::declval<V&>()[0])>;

template <class V>
constexpr int64_t kWidth = sizeof(V) / sizeof(Element<V>);

template <class V>
PYEBM_HD V load(const Element<V>* from) {
  V v;
  memcpy(&v, from, sizeof v);
  return v;
}

template <class V>
PYEBM_HD void store(Element<V>* to, V v) {
  memcpy(to, &v, sizeof v);
}

// Puts x in every lane. x - 0 is always x, but x + 0 is not (x may be -0).
template <class V>
PYEBM_HD V all(Element<V> x) {
  return x - V{};
}

// a b + c, rounded once where the level has such an instruction.
template <class V>
PYEBM_HD V fma(V a, V b, V c) {
#if PYEBM_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<V, Wide<float>>) return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  if constexpr (std::is_same_v<V, Wide<double>>)
    return (V)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#endif
#if PYEBM_VECTOR_BYTES >= 32
  if constexpr (std::is_same_v<V, Narrow<float>>) return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  if constexpr (std::is_same_v<V, Narrow<double>>)
    return (V)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
  if constexpr (std::is_same_v<V, Least<float>>) return (V)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
  if constexpr (std::is_same_v<V, Least<double>>) return (V)_mm_fmadd_pd((__m128d)a, (__m128d)b, (__m128d)c);
#elif defined(PYEBM_NEON)
  if constexpr (sizeof(Element<V>) == 4)
    return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
  else
    return (V)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
  return a * b + c;
#endif
}

#if defined(PYEBM_PHILOX_LANES)
// The square root, correctly rounded.
PYEBM_HD Wide<float> root(Wide<float> x) {
#if PYEBM_VECTOR_BYTES == 64
  return (Wide<float>)_mm512_sqrt_ps((__m512)x);
#elif PYEBM_VECTOR_BYTES == 32
  return (Wide<float>)_mm256_sqrt_ps((__m256)x);
#else
  return (Wide<float>)vsqrtq_f32((float32x4_t)x);
#endif
}

// Words as floats, rounded once. AVX2 has no such instruction: both halves of a word become floats
// that are exact, the upper one's with 2^23 too little and the lower one's with 2^23 too much.
PYEBM_HD Wide<float> floats_of(Wide<uint32_t> words) {
#if PYEBM_VECTOR_BYTES == 32
  const Wide<uint32_t> upper = (words >> 16) | 0x53000000u;
  const __m256i lower = _mm256_blend_epi16((__m256i)words, _mm256_set1_epi32(0x4B000000), 0xAA);
  return ((Wide<float>)upper - 0x1.0001p39f) + (Wide<float>)lower;
#else
  return __builtin_convertvector(words, Wide<float>);
#endif
}

// A vector of float16 numbers as floats.
PYEBM_HD Wide<float> of_halves(const uint16_t* in) {
#if PYEBM_VECTOR_BYTES == 64
  return (Wide<float>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
#elif PYEBM_VECTOR_BYTES == 32
  return (Wide<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
#else
  return (Wide<float>)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(in)));
#endif
}

// Writes floats as float16 numbers, rounded to nearest, ties to even. A NaN keeps its sign alone.
PYEBM_HD void to_halves(Wide<float> x, uint16_t* out) {
  const Wide<uint32_t> bits = (Wide<uint32_t>)x;
  x = (Wide<float>)(x == x ? bits : (bits & 0x80000000u) | 0x7FC00000u);
#if PYEBM_VECTOR_BYTES == 64
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
#elif PYEBM_VECTOR_BYTES == 32
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
#else
  vst1_u16(out, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x)));
#endif
}
#endif

// Whether any lane is anything but +0.
template <class V>
PYEBM_HD bool any(V v) {
#if PYEBM_VECTOR_BYTES == 64
  if constexpr (sizeof(V) == 64) return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0;
#endif
#if PYEBM_VECTOR_BYTES >= 32
  if constexpr (sizeof(V) == 32) return !_mm256_testz_si256((__m256i)v, (__m256i)v);
#else
  int64_t halves[2];
  memcpy(halves, &v, sizeof v);
  return (halves[0] | halves[1]) != 0;
#endif
}

// The larger of both; a where b is NaN.
template <class V>
PYEBM_HD V larger(V b, V a) {
  return b > a ? b : a;
}

// Clamps x into [low, high]; NaN stays NaN.
template <class V>
PYEBM_HD V within(V x, Element<V> low, Element<V> high) {
#if PYEBM_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<V, Wide<float>>) {
    return (V)_mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), (__m512)x));
  }
  if constexpr (std::is_same_v<V, Wide<double>>) {
    return (V)_mm512_min_pd(_mm512_set1_pd(high), _mm512_max_pd(_mm512_set1_pd(low), (__m512d)x));
  }
#elif PYEBM_VECTOR_BYTES == 32
  if constexpr (std::is_same_v<V, Wide<float>>) {
    return (V)_mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), (__m256)x));
  }
  if constexpr (std::is_same_v<V, Wide<double>>) {
    return (V)_mm256_min_pd(_mm256_set1_pd(high), _mm256_max_pd(_mm256_set1_pd(low), (__m256d)x));
  }
#endif
  x = x < low ? all<V>(low) : x;
  return x > high ? all<V>(high) : x;
}

// The lanes kLane of a and b, counted through a and then through b.
template <int64_t... kLane, class V>
PYEBM_HD V lanes_of(V a, V b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kLane...);
#else  // gcc knows that name from version 12 on only
  using Index = std::conditional_t<sizeof(Element<V>) == 4, int32_t, int64_t>;
  return __builtin_shuffle(a, b, typename VectorOf<Index, sizeof(V)>::type{static_cast<Index>(kLane)...});
#endif
}

// Swaps the off-diagonal quarters of every 2 kStep x 2 kStep block of rows a and b, kStep apart.
template <int kStep, class V, int64_t... kLane>
PYEBM_HD void swap_quarters(V& a, V& b, std::integer_sequence<int64_t, kLane...>) {
  constexpr int64_t kCount = sizeof...(kLane);
  const V upper = lanes_of<(kLane & kStep ? kCount + (kLane ^ kStep) : kLane)...>(a, b);
  b = lanes_of<(kLane & kStep ? kCount + kLane : kLane ^ kStep)...>(a, b);
  a = upper;
}

// Transposes as many rows as a vector has lanes.
template <class V, int kStep = kWidth<V> / 2>
PYEBM_HD void transpose(V (&rows)[kWidth<V>]) {
  PYEBM_UNROLL
  for (int64_t r = 0; r < kWidth<V>; ++r) {
    if (!(r & kStep))
      swap_quarters<kStep>(rows[r], rows[r | kStep], std::make_integer_sequence<int64_t, kWidth<V>>());
  }
  if constexpr (kStep > 1) transpose<V, kStep / 2>(rows);
}

// 2^y for y <= 0, within 2^-23 (float) or 2^-52 (double) of it; 1 at 0, 0 where it would be
// subnormal, NaN stays NaN. The whole part of y is added to the exponent.
template <class V>
PYEBM_HD V exp2_of(V y) {
  using T = Element<V>;
  constexpr bool kSingle = sizeof(T) == 4;
  constexpr T kToInteger = kSingle ? T(0x1.8p23) : T(0x1.8p52), kLeast = kSingle ? T(-126) : T(-1022);
  using Bits = typename VectorOf<std::conditional_t<kSingle, int32_t, int64_t>, sizeof(V)>::type;
  const V rounded = y + kToInteger, f = y - (rounded - kToInteger);
  constexpr Exp2<T> kPolynomial;
  V q = all<V>(kPolynomial.coefficients[0]);
  PYEBM_UNROLL
  for (int k = 1; k < kPolynomial.kTerms; ++k) q = fma(q, f, all<V>(kPolynomial.coefficients[k]));
  const V power = (V)((Bits)q + ((Bits)rounded << (kSingle ? 23 : 52)));
  return y < kLeast ? V{} : power;
}

}  // namespace
