// Several vectors side by side: each operation runs on all of them before the next one does. A
// vector of normals is one long chain of operations; while one vector waits for its last result,
// the other vectors keep the processor's units busy. Included once by each level_*.cpp that has
// PhiloxLanes, after vectors.h, under the rules of chunk_kernels.h.

// Lets gcc mix a function's instructions: it orders them before it gives them registers. For AVX2
// it must also leave each exclusive or of three words as xor3 writes it: the word that is ready last
// comes in last.
#if defined(__GNUC__) && !defined(__clang__) && PYEBM_VECTOR_BYTES == 64
#define PYEBM_MIX_INSTRUCTIONS __attribute__((optimize("schedule-insns")))
#elif defined(__GNUC__) && !defined(__clang__) && PYEBM_VECTOR_BYTES == 32
#define PYEBM_MIX_INSTRUCTIONS __attribute__((optimize("schedule-insns", "no-tree-reassoc")))
#else
#define PYEBM_MIX_INSTRUCTIONS
#endif

namespace {

template <class V, int kCount>
struct Several {
  V each[kCount];
};

// The fastest for words and for normals. AVX2 has sixteen registers, for which four are too many.
constexpr int kSideBySide = PYEBM_VECTOR_BYTES == 32 ? 2 : 4;

using Words = Wide<uint32_t>;

template <class A>
PYEBM_HD const A& at(const A& number, int) {
  return number;
}

template <class V, int kCount>
PYEBM_HD const V& at(const Several<V, kCount>& several, int i) {
  return several.each[i];
}

// Computes the expression for each i. at(x, i) lets an operand be one number for all. (No lambdas:
// gcc gives them no target.)
#define PYEBM_EACH(V, expression)                                  \
  Several<V, kCount> several;                                      \
  PYEBM_UNROLL                                                     \
  for (int i = 0; i < kCount; ++i) several.each[i] = (expression); \
  return several

#define PYEBM_OPERATOR(op)                                                           \
  template <class V, int kCount, class B>                                            \
  PYEBM_HD Several<V, kCount> operator op(const Several<V, kCount>& a, const B& b) { \
    PYEBM_EACH(V, a.each[i] op at(b, i));                                            \
  }
PYEBM_OPERATOR(+)
PYEBM_OPERATOR(-)
PYEBM_OPERATOR(*)
PYEBM_OPERATOR(&)
PYEBM_OPERATOR(^)
PYEBM_OPERATOR(<<)
#undef PYEBM_OPERATOR

template <class V, int kCount>
PYEBM_HD Several<V, kCount> operator-(Element<V> a, const Several<V, kCount>& b) {
  PYEBM_EACH(V, a - b.each[i]);
}

// The operations that philox4x32_10 and box_muller need for words and floats.
template <int kCount>
PYEBM_HD void multiply(uint32_t constant, const Several<PhiloxLanes, kCount>& word,
                       Several<PhiloxLanes, kCount>& high, Several<PhiloxLanes, kCount>& low) {
  PYEBM_UNROLL
  for (int i = 0; i < kCount; ++i) multiply(constant, word.each[i], high.each[i], low.each[i]);
}

// Two of the three words may be the same for all calls.
template <int kCount, class B, class Key>
PYEBM_HD auto xor3(const Several<PhiloxLanes, kCount>& a, const B& b, const Key& key) {
  PYEBM_EACH(PhiloxLanes, xor3(a.each[i], PhiloxLanes(at(b, i)), PhiloxLanes(at(key, i))));
}

template <int kCount, class Key>
PYEBM_HD auto xor3(uint32_t a, const Several<PhiloxLanes, kCount>& b, const Key& key) {
  return xor3(b, a, key);
}

template <int kCount>
PYEBM_HD auto xor3(uint32_t a, uint32_t b, const Several<PhiloxLanes, kCount>& key) {
  return xor3(key, a, b);
}

template <int kCount>
PYEBM_HD auto to_float(const Several<Words, kCount>& words) {
  PYEBM_EACH(Wide<float>, floats_of(words.each[i]));
}

template <int kCount>
PYEBM_HD auto signed_to_float(const Several<Words, kCount>& words) {
  PYEBM_EACH(Wide<float>, __builtin_convertvector((Wide<int32_t>)words.each[i], Wide<float>));
}

template <int kCount>
PYEBM_HD auto bits_float(const Several<Words, kCount>& words) {
  PYEBM_EACH(Wide<float>, (Wide<float>)words.each[i]);
}

template <int kCount>
PYEBM_HD auto float_bits(const Several<Wide<float>, kCount>& floats) {
  PYEBM_EACH(Words, (Words)floats.each[i]);
}

template <int kCount>
PYEBM_HD auto root_of_log(const Several<Wide<float>, kCount>& floats) {
  PYEBM_EACH(Wide<float>, root(floats.each[i]));
}

template <class Floats, int kCount>
PYEBM_HD void rotated(const Floats& r, const Floats& c, const Floats& s, const Several<Words, kCount>& turn,
                      Floats& even, Floats& odd) {
  PYEBM_UNROLL
  for (int i = 0; i < kCount; ++i) {
#if PYEBM_VECTOR_BYTES == 32
    const auto turned = (Wide<int32_t>)(turn.each[i] << 1) < 0;  // a selection looks at the sign alone
#else
    const auto turned = (turn.each[i] & 0x40000000u) != 0;
#endif
    even.each[i] = r.each[i] * (turned ? -s.each[i] : c.each[i]);
    odd.each[i] = r.each[i] * (turned ? c.each[i] : s.each[i]);
  }
}

#undef PYEBM_EACH

}  // namespace
