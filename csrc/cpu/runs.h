// Coefficients of runs of elements: a value serves a sample, a token, an element. A chunk within one run goes to a kernel that
// takes numbers; for any other each element's numbers are laid out, so that many short runs cost no calls.
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

  bool change_in(const Chunk& chunk) const {
    return length_ && chunk.first / length_ != (chunk.first + chunk.count - 1) / length_;
  }

 private:
  std::array<Coefficient, kCount> all_;
  int64_t length_ = 0;
};

// One thread's numbers for a kernel, kCount of each run: make(n, values, out) makes those of n runs from the coefficients' values.
template <class T, size_t kCoefficients, size_t kCount>
class RunNumbers {
 public:
  RunNumbers() {}  // left as it is

  // Of the chunk, which is within one run.
  template <class Make>
  std::array<T, kCount> of_all(const Runs<kCoefficients>& runs, const Chunk& chunk, Make make) {
    std::array<T, kCount> numbers;
    T* made[kCount];
    for (size_t k = 0; k < kCount; ++k) made[k] = &numbers[k];
    read(runs, runs.length() ? chunk.first / runs.length() : 0, 1);
    make(1, values_of_, made);
    return numbers;
  }

  // Of every element of the chunk.
  template <class Make>
  std::array<const T*, kCount> of_each(const Runs<kCoefficients>& runs, const Chunk& chunk, Make make) {
    const int64_t end = chunk.first + chunk.count, length = runs.length() ? runs.length() : end, last = (end - 1) / length;
    T made_of_runs[kCount][kAtOnce];
    T* made[kCount];
    for (int64_t run = chunk.first / length, at = 0; run <= last; run += kAtOnce) {
      const int64_t n = std::min(kAtOnce, last + 1 - run);
      const int64_t skip = chunk.first + at - run * length, elements = std::min(n * length - skip, chunk.count - at);
      for (size_t k = 0; k < kCount; ++k) made[k] = length == 1 ? each_[k].data + at : made_of_runs[k];
      read(runs, run, n);
      make(n, values_of_, made);
      for (size_t k = 0; k < kCount && length > 1; ++k) kernels_of<T>().repeat(elements, length, skip, made[k], each_[k].data + at);
      at += elements;
    }
    std::array<const T*, kCount> each;
    for (size_t k = 0; k < kCount; ++k) each[k] = each_[k].data;
    return each;
  }

 private:
  static constexpr int64_t kAtOnce = 64;

  // The values of n runs; those that serve all are read once.
  void read(const Runs<kCoefficients>& runs, int64_t first, int64_t n) {
    for (size_t k = 0; k < kCoefficients; ++k) {
      if (runs[k].run()) {
        runs[k].read(first, n, runs.length(), values_[k]);
      } else if (read_ < n) {
        runs[k].read(0, n, 0, values_[k]);
      }
      values_of_[k] = values_[k];
    }
    read_ = std::max(read_, n);
  }

  int64_t read_ = 0;
  double values_[kCoefficients][kAtOnce];
  const double* values_of_[kCoefficients];
  Buffer<T> each_[kCount];
};

}  // namespace pyebm
