// Philox's words of a chunk of calls, and the normals and uniforms that they make. Included once by
// each level_*.cpp, under the rules of chunk_kernels.h. A level with PhiloxLanes works on several
// vectors at once; the baseline is left to the auto-vectoriser.

namespace {

using pyebm::Calls;
using pyebm::kCacheLine;
using pyebm::kChunk;
using pyebm::kLeastCalls;
using pyebm::Soon;

// The words of calls that count up from the first one's.
struct CountingUp {
  uint32_t first;
};

// The counters and keys of some calls. Group and Sample are a uint32_t where all calls share a word,
// which the first rounds multiply once for all, CountingUp, or a pointer to a word for each call. Key
// is a uint32_t or a pointer.
template <class Group, class Sample, class Key>
struct Counters {
  Group group;
  Sample sample;
  uint32_t step, stream;
  Key key0, key1;
};

// Brings into the cache the memory that goes with the calls [i, i + n).
PYEBM_HD void bring(const Calls& calls, int64_t i, int64_t n) {
  for (int64_t k = 0; k < calls.soon_count; ++k) {
    const Soon& soon = calls.soon[k];
    const char *at = soon.begin + i * soon.bytes_a_call, *end = at + n * soon.bytes_a_call;
    if (soon.written)
      for (; at < end; at += kCacheLine) __builtin_prefetch(at, 1);
    else
      for (; at < end; at += kCacheLine) __builtin_prefetch(at, 0);
  }
}

#if defined(PYEBM_PHILOX_LANES)

using Floats = Wide<float>;

// Words 0 and 2 of some calls, and words 1 and 3: the radii and the angles of pairs of normals. Of
// calls that want no more than two words, words 0 and 1 alone.
template <int kCount>
struct WordPairs {
  Several<Words, kCount> radius, angle;
};

template <int kCount>
PYEBM_HD Several<PhiloxLanes, kCount> words_from(const uint32_t* words, int64_t i) {
  Several<PhiloxLanes, kCount> several;
  PYEBM_UNROLL
  for (int k = 0; k < kCount; ++k) several.each[k] = PhiloxLanes(words + i + k * PhiloxLanes::kCount);
  return several;
}

template <int kCount>
PYEBM_HD Several<PhiloxLanes, kCount> words_from(CountingUp words, int64_t i) {
  const PhiloxLanes first = PhiloxLanes::counting_up(words.first + static_cast<uint32_t>(i));
  Several<PhiloxLanes, kCount> several;
  PYEBM_UNROLL
  for (uint32_t k = 0; k < kCount; ++k)
    several.each[k] = first + k * static_cast<uint32_t>(PhiloxLanes::kCount);
  return several;
}

template <int kCount>
PYEBM_HD uint32_t words_from(uint32_t word, int64_t) {
  return word;
}

// The words of kCount vectors of calls from `i` on.
template <int kCount, class All>
PYEBM_HD auto philox_words(const All& calls, int64_t i) {
  return philox4x32_10(words_from<kCount>(calls.group, i), words_from<kCount>(calls.sample, i), calls.step,
                       calls.stream, words_from<kCount>(calls.key0, i), words_from<kCount>(calls.key1, i));
}

// How many calls make one vector of pairs.
template <int kWanted>
constexpr int64_t kCallsOf = PhiloxLanes::kCount * (kWanted <= 2 ? 2 : 1);

// kCount vectors of pairs from the calls from `i` on.
template <int kWanted, int kCount, class All>
PYEBM_HD WordPairs<kCount> word_pairs(const All& calls, int64_t i) {
  WordPairs<kCount> pairs;
  const auto words = philox_words<kCount>(calls, i);
  if constexpr (kWanted <= 2) {
    const auto more = philox_words<kCount>(calls, i + kCount * PhiloxLanes::kCount);
    PYEBM_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const auto& from = 2 * k < kCount ? words : more;
      const auto& next = 2 * k + 1 < kCount ? words : more;
      const int a = 2 * k % kCount, b = (2 * k + 1) % kCount;
      pairs.radius.each[k] = (Words)PhiloxLanes::one_by_one(from.c0.each[a], next.c0.each[b]);
      pairs.angle.each[k] = (Words)PhiloxLanes::one_by_one(from.c1.each[a], next.c1.each[b]);
    }
  } else {
    PYEBM_UNROLL
    for (int k = 0; k < kCount; ++k) {
      pairs.radius.each[k] = (Words)PhiloxLanes::in_turn(words.c0.each[k], words.c2.each[k]);
      pairs.angle.each[k] = (Words)PhiloxLanes::in_turn(words.c1.each[k], words.c3.each[k]);
    }
  }
  return pairs;
}

// Takes the lanes of a and b in turn; kFirst is the first lane that it takes of each.
template <int64_t kFirst, class V, int64_t... kLane>
PYEBM_HD V zipped(V a, V b, std::integer_sequence<int64_t, kLane...>) {
  return lanes_of<(kFirst + kLane / 2 + kLane % 2 * kWidth<V>)...>(a, b);
}

// Writes the numbers of pairs or, with kWanted == 1, the first number of each pair.
template <class Draw, int kWanted, int kCount>
PYEBM_HD void write(const WordPairs<kCount>& pairs, float* out) {
  constexpr int64_t kEach = kWidth<Floats>;
  constexpr std::make_integer_sequence<int64_t, kEach> kLanesOfOne;
  Several<Floats, kCount> even, odd;
  Draw::of(pairs.radius, pairs.angle, even, odd);
  PYEBM_UNROLL
  for (int k = 0; k < kCount; ++k) {
    if constexpr (kWanted == 1) {
      store(out + k * kEach, even.each[k]);
    } else {
      store(out + 2 * k * kEach, zipped<0>(even.each[k], odd.each[k], kLanesOfOne));
      store(out + (2 * k + 1) * kEach, zipped<kEach / 2>(even.each[k], odd.each[k], kLanesOfOne));
    }
  }
}

// Draws the numbers of the calls from `i` on, a block of kCount vectors of pairs at a time. Returns
// the first call that is left. While it makes a block's numbers it makes the words of the next
// block, since each of the two alone is a long chain of operations that wait for each other.
template <class Draw, int kWanted, int kCount, class All>
PYEBM_MIX_INSTRUCTIONS int64_t numbers(const Calls& whole, All calls, int64_t i, int64_t n, float* out) {
  constexpr int64_t kBlock = kCount * kCallsOf<kWanted>;
  if (i + kBlock > n) return i;
  WordPairs<kCount> pairs = word_pairs<kWanted, kCount>(calls, i);
  for (; i + 2 * kBlock <= n; i += kBlock) {
    bring(whole, i, kBlock);
    const WordPairs<kCount> next = word_pairs<kWanted, kCount>(calls, i + kBlock);
    write<Draw, kWanted>(pairs, out + i * kWanted);
    pairs = next;
  }
  bring(whole, i, kBlock);
  write<Draw, kWanted>(pairs, out + i * kWanted);
  return i + kBlock;
}

// Draws the numbers of n calls, a multiple of kLeastCalls. Takes the calls by value: the stores then
// can't change the counters, which stay in registers.
template <class Draw, int kWanted, class All>
void numbers(const Calls& whole, All calls, int64_t n, float* out) {
  constexpr int kLeast = kLeastCalls / kCallsOf<kWanted>;
  int64_t left = 0;
  if constexpr (kLeast % kSideBySide != 0)
    left = numbers<Draw, kWanted, kSideBySide>(whole, calls, 0, n, out);
  numbers<Draw, kWanted, (kLeast < kSideBySide ? kLeast : kSideBySide)>(whole, calls, left, n, out);
}

#else

PYEBM_HD uint32_t word_of(const uint32_t* words, int64_t i) { return words[i]; }
PYEBM_HD uint32_t word_of(CountingUp words, int64_t i) { return words.first + static_cast<uint32_t>(i); }
PYEBM_HD uint32_t word_of(uint32_t word, int64_t) { return word; }

template <class Draw, int kWanted, class All>
void numbers(const Calls&, All calls, int64_t n, float* out) {
  constexpr int kPairs = kWanted <= 2 ? 1 : 2;
  alignas(64) uint32_t radius[kChunk / 2], angle[kChunk / 2];
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const auto words = philox4x32_10(word_of(calls.group, i), word_of(calls.sample, i), calls.step,
                                     calls.stream, word_of(calls.key0, i), word_of(calls.key1, i));
    radius[kPairs * i] = words.c0;
    angle[kPairs * i] = words.c1;
    if (kPairs == 1) continue;
    radius[kPairs * i + 1] = words.c2;
    angle[kPairs * i + 1] = words.c3;
  }
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n * kPairs; ++i) {
    float even, odd;
    Draw::of(radius[i], angle[i], even, odd);
    if (kWanted == 1) {
      out[i] = even;
    } else {
      out[2 * i] = even, out[2 * i + 1] = odd;
    }
  }
}

#endif

template <class Draw, int kWanted, class Group, class Sample>
void numbers(const Calls& calls, Group group, Sample sample, int64_t n, float* out) {
  if (calls.same_key) {
    numbers<Draw, kWanted>(calls,
                           Counters<Group, Sample, uint32_t>{group, sample, calls.step, calls.stream,
                                                             calls.key0[0], calls.key1[0]},
                           n, out);
  } else if constexpr (std::is_same_v<Sample, const uint32_t*>) {  // many keys are of many samples
    numbers<Draw, kWanted>(calls,
                           Counters<Group, Sample, const uint32_t*>{group, sample, calls.step, calls.stream,
                                                                    calls.key0, calls.key1},
                           n, out);
  }
}

template <class Draw, int kWanted>
void numbers_of_one_group(const Calls& calls, int64_t n, float* out) {
  if (calls.counting_up)
    return numbers<Draw, kWanted>(calls, calls.group[0], CountingUp{calls.sample[0]}, n, out);
  const uint32_t* sample = calls.sample;
  numbers<Draw, kWanted>(calls, calls.group[0], sample, n, out);
}

// Draws the numbers of n calls, and of some more up to a multiple of kLeastCalls.
template <class Draw>
void numbers(const Calls& calls, int64_t n, float* out) {
  n = (n + kLeastCalls - 1) / kLeastCalls * kLeastCalls;
  if (calls.wanted == 1) return numbers_of_one_group<Draw, 1>(calls, n, out);
  if (calls.wanted == 2) return numbers_of_one_group<Draw, 2>(calls, n, out);
  if (calls.same_group) return numbers_of_one_group<Draw, 4>(calls, n, out);
  if (calls.same_sample) return numbers<Draw, 4>(calls, CountingUp{calls.group[0]}, calls.sample[0], n, out);
  const uint32_t *group = calls.group, *sample = calls.sample;
  numbers<Draw, 4>(calls, group, sample, n, out);
}

struct Normals {
  template <class Word, class Float>
  PYEBM_HD static void of(Word radius, Word angle, Float& even, Float& odd) {
    box_muller(radius, angle, even, odd);
  }
};

struct Uniforms {
  template <class Word, class Float>
  PYEBM_HD static void of(Word first, Word second, Float& even, Float& odd) {
    even = uniform(first), odd = uniform(second);
  }
};

void normals(const Calls& calls, int64_t n, float* out) { numbers<Normals>(calls, n, out); }
void uniforms(const Calls& calls, int64_t n, float* out) { numbers<Uniforms>(calls, n, out); }

}  // namespace
