// Coefficients of runs of elements: a value serves a sample, a token, an element. A long run goes to a kernel that takes numbers;
// for short ones each element's numbers are laid out, so that they cost no calls.
#pragma once

#include <array>
#include <numeric>

#include "samples.h"

namespace pyebm {

// Some coefficients, and the runs of elements within which none of them changes.
template <size_t kCount>
class Runs {
 public:
  explicit Runs(const std::array<Coefficient, kCount>& coefficients) : all_(coefficients) {
    for (const Coefficient& one : all_) length_ = std::gcd(length_, one.run());
  }

  const Coefficient& operator[](size_t k) const { return all_[k]; }
  int64_t length() const { return length_; }  // 0: none ever changes

  bool change_in(const Chunk& chunk) const { return length_ && chunk.first / length_ != (chunk.first + chunk.count - 1) / length_; }
  // Is a call for each of the chunk's runs less than the laying out?
  bool are_long(const Chunk& chunk) const { return length_ >= kLong || !change_in(chunk); }

  static constexpr int64_t kLong = 32;

 private:
  std::array<Coefficient, kCount> all_;
  int64_t length_ = 0;
};

// One thread's numbers for a kernel, kCount of each run: make(n, values, out) makes those of n runs from the coefficients' values.
template <class T, size_t kCoefficients, size_t kCount>
class RunNumbers {
 public:
  RunNumbers() {}  // left as it is

  // Calls visit(at, n, numbers) for each run: the chunk's elements [at, at + n).
  template <class Make, class Visit>
  void for_each_run(const Runs<kCoefficients>& runs, const Chunk& chunk, Make make, Visit visit) {
    for_some_runs(runs, chunk, [&](int64_t at, int64_t n, int64_t length, int64_t skip, int64_t elements) {
      T* made[kCount];
      for (size_t k = 0; k < kCount; ++k) made[k] = made_[k];
      make(n, values_of_, made);
      const int64_t end = at + elements;
      for (int64_t i = 0, next = at + length - skip; i < n; ++i, at = next, next += length) {
        std::array<T, kCount> numbers;
        for (size_t k = 0; k < kCount; ++k) numbers[k] = made_[k][i];
        visit(at, std::min(end, next) - at, numbers);
      }
    });
  }

  // Of every element of the chunk.
  template <class Make>
  std::array<const T*, kCount> of_each(const Runs<kCoefficients>& runs, const Chunk& chunk, Make make) {
    for_some_runs(runs, chunk, [&](int64_t at, int64_t n, int64_t length, int64_t skip, int64_t elements) {
      T* made[kCount];
      for (size_t k = 0; k < kCount; ++k) made[k] = length == 1 ? each_[k].data + at : made_[k];
      make(n, values_of_, made);
      for (size_t k = 0; k < kCount && length > 1; ++k) kernels_of<T>().repeat(elements, length, skip, made[k], each_[k].data + at);
    });
    std::array<const T*, kCount> each;
    for (size_t k = 0; k < kCount; ++k) each[k] = each_[k].data;
    return each;
  }

 private:
  static constexpr int64_t kAtOnce = 64;

  // Reads the values of some runs at a time, and calls take for them: those of `elements` elements from the chunk's `at` on, which
  // begin `skip` elements into the first of n runs.
  template <class Take>
  void for_some_runs(const Runs<kCoefficients>& runs, const Chunk& chunk, Take take) {
    const int64_t end = chunk.first + chunk.count, length = runs.length() ? runs.length() : end, last = (end - 1) / length;
    for (int64_t run = chunk.first / length, at = 0; run <= last; run += kAtOnce) {
      const int64_t n = std::min(kAtOnce, last + 1 - run);
      const int64_t skip = chunk.first + at - run * length, elements = std::min(n * length - skip, chunk.count - at);
      for (size_t k = 0; k < kCoefficients; ++k) {
        if (runs[k].run() || read_ < n) runs[k].read(run, n, length, values_[k]);  // what serves all is read once
        values_of_[k] = values_[k];
      }
      read_ = std::max(read_, n);
      take(at, n, length, skip, elements);
      at += elements;
    }
  }

  int64_t read_ = 0;
  double values_[kCoefficients][kAtOnce];
  const double* values_of_[kCoefficients];
  T made_[kCount][kAtOnce];
  Buffer<T> each_[kCount];
};

}  // namespace pyebm
