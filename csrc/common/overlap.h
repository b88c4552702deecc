// Whether two tensors have a byte of memory in common.
#pragma once

#include <algorithm>
#include <cstdint>

namespace pyebm {

// A tensor's memory; sizes and strides (>= 0) in elements.
struct Memory {
  const char* data;
  int64_t item, dims;
  const int64_t *sizes, *strides;

  int64_t reach() const {  // from the first element to the last
    int64_t sum = 0;
    for (int64_t d = 0; d < dims; ++d) sum += (sizes[d] - 1) * strides[d];
    return sum;
  }

  // Whether two elements may share an address. None do if every dimension, sorted by stride, steps
  // over everything that the dimensions below it reach.
  bool overlaps_itself() const {
    for (int64_t d = 0; d < dims; ++d) {
      if (sizes[d] <= 1) continue;
      int64_t below = 0;
      for (int64_t e = 0; e < dims; ++e) {
        if (strides[e] < strides[d] || (strides[e] == strides[d] && e > d))
          below += (sizes[e] - 1) * strides[e];
      }
      if (strides[d] <= below) return true;
    }
    return false;
  }

  // Whether every element has the address of the other tensor's element with the same index.
  bool is(const Memory& other) const {
    bool same = data == other.data && item == other.item && dims == other.dims;
    for (int64_t d = 0; same && d < dims; ++d)
      same = sizes[d] == other.sizes[d] && (sizes[d] == 1 || strides[d] == other.strides[d]);
    return same;
  }
};

// Two tensors share a byte if the distance between them is sum_k c_k stride_k for some integers
// low_k <= c_k <= high_k. Each dimension of either tensor is a term, and so are the bytes of an
// element.
class SharedBytes {
 public:
  // Neither tensor may be empty. After kMost trials the answer is true, to be safe.
  static bool exist(const Memory& a, const Memory& b) {
    SharedBytes search;
    search.add(1, 1 - b.item, a.item - 1);
    for (int64_t d = 0; d < a.dims; ++d) search.add(a.strides[d] * a.item, 0, a.sizes[d] - 1);
    for (int64_t d = 0; d < b.dims; ++d) search.add(b.strides[d] * b.item, 1 - b.sizes[d], 0);
    std::sort(search.terms_, search.terms_ + search.count_,
              [](const Term& s, const Term& t) { return s.stride > t.stride; });
    return search.reaches(0, b.data - a.data);
  }

 private:
  struct Term {
    int64_t stride, low, high;
  };
  static constexpr int kMostTerms = 2 * 64 + 1, kMost = 4096;

  void add(int64_t stride, int64_t low, int64_t high) {
    if (stride == 0 || low == high) return;
    for (int k = 0; k < count_; ++k) {
      if (terms_[k].stride != stride) continue;
      terms_[k].low += low, terms_[k].high += high;
      return;
    }
    if (count_ < kMostTerms) terms_[count_++] = {stride, low, high};
  }

  bool reaches(int from, int64_t distance) {
    if (from == count_) return distance == 0;
    int64_t low = 0, high = 0;  // bounds of the smaller strides' sum
    for (int k = from + 1; k < count_; ++k)
      low += terms_[k].low * terms_[k].stride, high += terms_[k].high * terms_[k].stride;
    const Term& term = terms_[from];
    const int64_t first = std::max(term.low, -floor_div(high - distance, term.stride));
    const int64_t last = std::min(term.high, floor_div(distance - low, term.stride));
    for (int64_t c = first; c <= last; ++c) {
      if (++tried_ > kMost || reaches(from + 1, distance - c * term.stride)) return true;
    }
    return false;
  }

  static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

  Term terms_[kMostTerms];
  int count_ = 0, tried_ = 0;
};

}  // namespace pyebm
