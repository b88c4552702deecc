// Philox's words of a chunk of calls, and the normals and uniforms that they make. Included once by
// each level_*.cpp, under the rules of chunk_kernels.h. A level with PhiloxLanes works on several
// vectors at once; the baseline is left to the auto-vectoriser.

namespace {

using pyebm::Calls;
using pyebm::kChunk;

#if defined(PYEBM_PHILOX_LANES)

template <int kCount>
PYEBM_HD Several<PhiloxLanes, kCount> lanes_from(const uint32_t* words) {
  Several<PhiloxLanes, kCount> several;
  PYEBM_UNROLL
  for (int i = 0; i < kCount; ++i) several.each[i] = PhiloxLanes(words + i * PhiloxLanes::kCount);
  return several;
}

template <int kCount>
PYEBM_HD Several<PhiloxLanes, kCount> lanes_of_one(uint32_t word) {
  Several<PhiloxLanes, kCount> several;
  PYEBM_UNROLL
  for (int i = 0; i < kCount; ++i) several.each[i] = PhiloxLanes(word);
  return several;
}

// Makes the words of the calls from `i` on, kCount vectors of calls at a time. Returns the first
// call that is left.
template <int kCount, bool kSameKey, bool kOnePair>
PYEBM_HD int64_t philox_words(const Calls& calls, int64_t i, int64_t n, uint32_t* even, uint32_t* odd) {
  constexpr int64_t kEach = PhiloxLanes::kCount;
  for (; i + kCount * kEach <= n; i += kCount * kEach) {
    auto c0 = lanes_from<kCount>(calls.group + i), c1 = lanes_from<kCount>(calls.sample + i);
    auto c2 = lanes_of_one<kCount>(calls.step), c3 = lanes_of_one<kCount>(calls.stream);
    if constexpr (kSameKey) {
      philox4x32_10(c0, c1, c2, c3, PhiloxLanes(calls.key0[0]), PhiloxLanes(calls.key1[0]));
    } else {
      philox4x32_10(c0, c1, c2, c3, lanes_from<kCount>(calls.key0 + i), lanes_from<kCount>(calls.key1 + i));
    }
    PYEBM_UNROLL
    for (int k = 0; k < kCount; ++k) {
      if constexpr (kOnePair) {
        c0.each[k].store(even + i + k * kEach);
        c1.each[k].store(odd + i + k * kEach);
      } else {
        PhiloxLanes::store_pairs(c0.each[k], c2.each[k], even + 2 * (i + k * kEach));
        PhiloxLanes::store_pairs(c1.each[k], c3.each[k], odd + 2 * (i + k * kEach));
      }
    }
  }
  return i;
}

// Runs Philox for all calls and sorts the words: words 0 and 2 of a call go to `even`, words 1 and
// 3 to `odd`; with kOnePair, words 0 and 1 alone.
template <bool kSameKey, bool kOnePair>
void philox_words(const Calls& calls, int64_t n, uint32_t* even, uint32_t* odd) {
  const int64_t left = philox_words<kSideBySide, kSameKey, kOnePair>(calls, 0, n, even, odd);
  philox_words<1, kSameKey, kOnePair>(calls, left, n, even, odd);
}

// Takes the lanes of a and b in turn; kFirst is the first lane that it takes of each.
template <int64_t kFirst, class V, int64_t... kLane>
PYEBM_HD V zipped(V a, V b, std::integer_sequence<int64_t, kLane...>) {
  return lanes_of<(kFirst + kLane / 2 + kLane % 2 * kWidth<V>)...>(a, b);
}

// Writes the pairs of normals from `i` on or, with kFirst, the first normal of each pair. Returns
// the first pair that is left.
template <int kCount, bool kFirst>
PYEBM_HD int64_t normals_of(const uint32_t* radius, const uint32_t* angle, int64_t i, int64_t n, float* out) {
  using Floats = Wide<float>;
  constexpr int64_t kEach = kWidth<Floats>;
  constexpr std::make_integer_sequence<int64_t, kEach> kLanesOfOne;
  for (; i + kCount * kEach <= n; i += kCount * kEach) {
    Several<Words, kCount> r, a;
    Several<Floats, kCount> even, odd;
    memcpy(&r, radius + i, sizeof r);
    memcpy(&a, angle + i, sizeof a);
    box_muller(r, a, even, odd);
    PYEBM_UNROLL
    for (int64_t k = 0; k < kCount; ++k) {
      if constexpr (kFirst) {
        store(out + i + k * kEach, even.each[k]);
        continue;
      }
      store(out + 2 * (i + k * kEach), zipped<0>(even.each[k], odd.each[k], kLanesOfOne));
      store(out + 2 * (i + k * kEach) + kEach, zipped<kEach / 2>(even.each[k], odd.each[k], kLanesOfOne));
    }
  }
  return i;
}

template <bool kFirst>
void normals_of(const uint32_t* radius, const uint32_t* angle, int64_t n, float* out) {
  normals_of<1, kFirst>(radius, angle, normals_of<kSideBySide, kFirst>(radius, angle, 0, n, out), n, out);
}

#else

template <bool kSameKey, bool kOnePair>
void philox_words(const Calls& calls, int64_t n, uint32_t* even, uint32_t* odd) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    uint32_t c0 = calls.group[i], c1 = calls.sample[i], c2 = calls.step, c3 = calls.stream;
    philox4x32_10(c0, c1, c2, c3, calls.key0[kSameKey ? 0 : i], calls.key1[kSameKey ? 0 : i]);
    if (kOnePair) {
      even[i] = c0;
      odd[i] = c1;
    } else {
      even[2 * i] = c0;
      odd[2 * i] = c1;
      even[2 * i + 1] = c2;
      odd[2 * i + 1] = c3;
    }
  }
}

template <bool kFirst>
void normals_of(const uint32_t* radius, const uint32_t* angle, int64_t n, float* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    float even, odd;
    box_muller(radius[i], angle[i], even, odd);
    if (kFirst) {
      out[i] = even;
    } else {
      out[2 * i] = even, out[2 * i + 1] = odd;
    }
  }
}

#endif

// Writes the words of n calls, sorted into `even` and `odd`; where calls want no more than two
// words, words 0 and 1 alone. Returns how many it wrote to each, a multiple of 16.
int64_t philox_words(const Calls& calls, int64_t n, uint32_t* even, uint32_t* odd) {
  n = (n + 15) / 16 * 16;
  if (calls.wanted <= 2) {
    calls.same_key ? philox_words<true, true>(calls, n, even, odd)
                   : philox_words<false, true>(calls, n, even, odd);
    return n;
  }
  calls.same_key ? philox_words<true, false>(calls, n, even, odd)
                 : philox_words<false, false>(calls, n, even, odd);
  return 2 * n;
}

void normals(const Calls& calls, int64_t n, float* out) {
  alignas(64) uint32_t radius[kChunk / 2], angle[kChunk / 2];
  n = philox_words(calls, n, radius, angle);
  calls.wanted == 1 ? normals_of<true>(radius, angle, n, out) : normals_of<false>(radius, angle, n, out);
}

void uniforms(const Calls& calls, int64_t n, float* out) {
  alignas(64) uint32_t even[kChunk / 2], odd[kChunk / 2];
  n = philox_words(calls, n, even, odd);
  if (calls.wanted == 1) {
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) out[i] = uniform(even[i]);
    return;
  }
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) out[2 * i] = uniform(even[i]), out[2 * i + 1] = uniform(odd[i]);
}

}  // namespace
