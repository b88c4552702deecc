// Philox's words of a chunk of calls, and the normals and uniforms that they make. Included once by
// each level_*.cpp, under the rules of chunk_kernels.h. A level with PhiloxLanes works on several
// vectors at once; the baseline is left to the auto-vectoriser.

namespace {

using pyebm::Calls;
using pyebm::kCacheLine;
using pyebm::kChunk;
using pyebm::Soon;

// The counters and keys of some calls. Group, Sample and Key are pointers to a word for each call.
// Where all calls share a word, it is a uint32_t, which the first rounds multiply once for all.
template <class Group, class Sample, class Key>
struct Counters {
  Group group;
  Sample sample;
  uint32_t step, stream;
  Key key0, key1;
};

// Brings into the cache the memory that goes with the pieces [i, i + n).
PYEBM_HD void bring(const Calls& calls, int64_t i, int64_t n) {
  for (int64_t k = 0; k < calls.soon_count; ++k) {
    const Soon& soon = calls.soon[k];
    const char *at = soon.begin + i * soon.bytes_a_piece, *end = at + n * soon.bytes_a_piece;
    if (soon.written)
      for (; at < end; at += kCacheLine) __builtin_prefetch(at, 1);
    else
      for (; at < end; at += kCacheLine) __builtin_prefetch(at, 0);
  }
}

#if defined(PYEBM_PHILOX_LANES)

template <int kCount>
PYEBM_HD Several<PhiloxLanes, kCount> words_from(const uint32_t* words, int64_t i) {
  Several<PhiloxLanes, kCount> several;
  PYEBM_UNROLL
  for (int k = 0; k < kCount; ++k) several.each[k] = PhiloxLanes(words + i + k * PhiloxLanes::kCount);
  return several;
}

template <int kCount>
PYEBM_HD uint32_t words_from(uint32_t word, int64_t) {
  return word;
}

// Makes the words of the calls from `i` on, kCount vectors of calls at a time. Returns the first
// call that is left.
template <bool kOnePair, int kCount, class All>
PYEBM_HD int64_t philox_words(const Calls& whole, const All& calls, int64_t i, int64_t n, uint32_t* even,
                              uint32_t* odd) {
  constexpr int64_t kEach = PhiloxLanes::kCount;
  for (; i + kCount * kEach <= n; i += kCount * kEach) {
    bring(whole, i, kCount * kEach);
    const auto words =
        philox4x32_10(words_from<kCount>(calls.group, i), words_from<kCount>(calls.sample, i), calls.step,
                      calls.stream, words_from<kCount>(calls.key0, i), words_from<kCount>(calls.key1, i));
    PYEBM_UNROLL
    for (int k = 0; k < kCount; ++k) {
      if constexpr (kOnePair) {
        words.c0.each[k].store(even + i + k * kEach);
        words.c1.each[k].store(odd + i + k * kEach);
      } else {
        PhiloxLanes::store_pairs(words.c0.each[k], words.c2.each[k], even + 2 * (i + k * kEach));
        PhiloxLanes::store_pairs(words.c1.each[k], words.c3.each[k], odd + 2 * (i + k * kEach));
      }
    }
  }
  return i;
}

// Takes the calls by value: the stores then can't change the counters, which stay in registers.
template <bool kOnePair, class All>
void philox_words(const Calls& whole, All counters, int64_t n, uint32_t* even, uint32_t* odd) {
  const int64_t left = philox_words<kOnePair, kSideBySide>(whole, counters, 0, n, even, odd);
  philox_words<kOnePair, 1>(whole, counters, left, n, even, odd);
}

// Takes the lanes of a and b in turn; kFirst is the first lane that it takes of each.
template <int64_t kFirst, class V, int64_t... kLane>
PYEBM_HD V zipped(V a, V b, std::integer_sequence<int64_t, kLane...>) {
  return lanes_of<(kFirst + kLane / 2 + kLane % 2 * kWidth<V>)...>(a, b);
}

// Writes the pairs of normals from `i` on or, with kFirst, the first normal of each pair. Returns
// the first pair that is left.
template <int kCount, bool kFirst>
PYEBM_HD int64_t normals_of(const Calls& calls, const uint32_t* radius, const uint32_t* angle, int64_t i,
                            int64_t n, float* out) {
  using Floats = Wide<float>;
  constexpr int64_t kEach = kWidth<Floats>;
  constexpr std::make_integer_sequence<int64_t, kEach> kLanesOfOne;
  const int two = calls.wanted <= 2 ? 0 : 1;  // whether a call makes two pairs
  for (; i + kCount * kEach <= n; i += kCount * kEach) {
    bring(calls, (n + i) >> two, kCount * kEach >> two);
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
void normals_of(const Calls& calls, const uint32_t* radius, const uint32_t* angle, int64_t n, float* out) {
  const int64_t left = normals_of<kSideBySide, kFirst>(calls, radius, angle, 0, n, out);
  normals_of<1, kFirst>(calls, radius, angle, left, n, out);
}

#else

PYEBM_HD uint32_t word_of(const uint32_t* words, int64_t i) { return words[i]; }
PYEBM_HD uint32_t word_of(uint32_t word, int64_t) { return word; }

template <bool kOnePair, class All>
void philox_words(const Calls&, All calls, int64_t n, uint32_t* even, uint32_t* odd) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const auto words = philox4x32_10(word_of(calls.group, i), word_of(calls.sample, i), calls.step,
                                     calls.stream, word_of(calls.key0, i), word_of(calls.key1, i));
    if (kOnePair) {
      even[i] = words.c0;
      odd[i] = words.c1;
    } else {
      even[2 * i] = words.c0;
      odd[2 * i] = words.c1;
      even[2 * i + 1] = words.c2;
      odd[2 * i + 1] = words.c3;
    }
  }
}

template <bool kFirst>
void normals_of(const Calls&, const uint32_t* radius, const uint32_t* angle, int64_t n, float* out) {
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

template <bool kOnePair, class Group, class Sample>
void philox_words(const Calls& calls, Group group, Sample sample, int64_t n, uint32_t* even, uint32_t* odd) {
  if (calls.same_key) {
    philox_words<kOnePair>(calls,
                           Counters<Group, Sample, uint32_t>{group, sample, calls.step, calls.stream,
                                                             calls.key0[0], calls.key1[0]},
                           n, even, odd);
  } else {
    philox_words<kOnePair>(calls,
                           Counters<Group, Sample, const uint32_t*>{group, sample, calls.step, calls.stream,
                                                                    calls.key0, calls.key1},
                           n, even, odd);
  }
}

// Runs Philox for n calls and sorts the words: words 0 and 2 of a call go to `even`, words 1 and 3
// to `odd`; where calls want no more than two words, words 0 and 1 alone. Returns how many it wrote
// to each, a multiple of 16.
int64_t philox_words(const Calls& calls, int64_t n, uint32_t* even, uint32_t* odd) {
  n = (n + 15) / 16 * 16;
  const uint32_t *group = calls.group, *sample = calls.sample;
  if (calls.wanted <= 2) {
    philox_words<true>(calls, group[0], sample, n, even, odd);
    return n;
  }
  if (calls.same_group) {
    philox_words<false>(calls, group[0], sample, n, even, odd);
  } else if (calls.same_sample) {
    philox_words<false>(calls, group, sample[0], n, even, odd);
  } else {
    philox_words<false>(calls, group, sample, n, even, odd);
  }
  return 2 * n;
}

void normals(const Calls& calls, int64_t n, float* out) {
  alignas(64) uint32_t radius[kChunk / 2], angle[kChunk / 2];
  n = philox_words(calls, n, radius, angle);
  calls.wanted == 1 ? normals_of<true>(calls, radius, angle, n, out)
                    : normals_of<false>(calls, radius, angle, n, out);
}

void uniforms(const Calls& calls, int64_t n, float* out) {
  alignas(64) uint32_t even[kChunk / 2], odd[kChunk / 2];
  bring(calls, n, n);
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
