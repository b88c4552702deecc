// Coefficients that change from run to run: each value serves the elements of a sample, of a token,
// or a single element. For a long run a kernel takes plain numbers; for short runs each element's
// numbers are laid out, so that one call serves many runs.
#pragma once

#include <array>
#include <numeric>

#include "chunk_noise.h"

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
  // Whether a kernel call for each run of the chunk costs less than laying out each element's
  // numbers.
  bool are_long(const Chunk& chunk) const { return length_ >= kLong || !change_in(chunk); }

  // Whether the coefficients change only between the chunk's rows.
  bool by_rows(const Chunk& chunk) const {
    return chunk.rows > 1 ? length_ % chunk.width == 0 : !change_in(chunk);
  }

  static constexpr int64_t kLong = 32;

 private:
  std::array<Coefficient, kCount> all_;
  int64_t length_ = 0;
};

// One thread's numbers for a kernel, kCount for each run: make(n, values, out) makes the numbers of
// n runs from the coefficients' values.
template <class T, size_t kCoefficients, size_t kCount>
class RunNumbers {
 public:
  RunNumbers() {}  // leaves the memory uninitialised

  // Calls visit(at, n, numbers) for each run, which covers the chunk's elements [at, at + n).
  template <class Make, class Visit>
  void for_each_run(const Runs<kCoefficients>& runs, const Chunk& chunk, Make make, Visit visit) {
    for_some_runs(runs, chunk, [&](int64_t at, int64_t n, int64_t length, int64_t skip, int64_t elements) {
      T* out[kCount];
      for (size_t k = 0; k < kCount; ++k) out[k] = run_numbers_[k];
      make(n, values_of_, out);
      const int64_t end = at + elements;
      for (int64_t i = 0, next = at + length - skip; i < n; ++i, at = next, next += length) {
        std::array<T, kCount> numbers;
        for (size_t k = 0; k < kCount; ++k) numbers[k] = run_numbers_[k][i];
        visit(at, std::min(end, next) - at, numbers);
      }
    });
  }

  // Calls visit(row, n, numbers) for some of the chunk's rows at a time. The coefficients must
  // change only between rows.
  template <class Make, class Visit>
  void for_some_rows(const Runs<kCoefficients>& runs, const Chunk& chunk, Make make, Visit visit) {
    const int64_t length = length_of_rows(runs, chunk), first = chunk.first / length;
    T* out[kCount];
    for (size_t k = 0; k < kCount; ++k) out[k] = run_numbers_[k];
    for (int64_t row = 0; row < chunk.rows; row += kAtOnce) {
      const int64_t n = std::min(kAtOnce, chunk.rows - row);
      const bool same = !runs.length() && n <= read_;
      read(runs, first + row, n, length);
      if (!same) make(n, values_of_, out);
      visit(row, n, out);
    }
  }

  // The coefficients of every element of the chunk, rounded to T.
  std::array<const T*, kCoefficients> of_each(const Runs<kCoefficients>& runs, const Chunk& chunk) {
    if (runs.length() == 1) return of_rows(runs, chunk.of_elements());  // they lie as they are wanted
    static_assert(kCoefficients == kCount);
    return of_each(runs, chunk, [](int64_t n, const auto& values, T* const* out) {
      for (size_t k = 0; k < kCount; ++k) std::copy(values[k], values[k] + n, out[k]);
    });
  }

  // The coefficients of the chunk's rows, rounded to T. The coefficients must change only between
  // rows.
  std::array<const T*, kCoefficients> of_rows(const Runs<kCoefficients>& runs, const Chunk& chunk) {
    const int64_t length = length_of_rows(runs, chunk), first = chunk.first / length;
    std::array<const T*, kCoefficients> found;
    for (size_t k = 0; k < kCoefficients; ++k) {
      found[k] = each_[k].data;
      if (runs[k].run() == length && runs[k].template lie_as<T>()) {
        found[k] = runs[k].rows(first, chunk.rows, each_[k].data);
      } else if (runs[k].run()) {
        for (int64_t row = 0; row < chunk.rows; row += kAtOnce) {
          const int64_t n = std::min(kAtOnce, chunk.rows - row);
          runs[k].read(first + row, n, length, values_[k]);
          std::copy(values_[k], values_[k] + n, each_[k].data + row);
        }
      } else if (filled_ < chunk.rows) {
        std::fill_n(each_[k].data, chunk.rows, static_cast<T>(runs[k][0]));
      }
    }
    filled_ = std::max(filled_, chunk.rows);
    return found;
  }

  // The same number for each of n rows.
  const T* of_all(T number, int64_t n) {
    std::fill_n(each_[kCount - 1].data, n, number);
    return each_[kCount - 1].data;
  }

  // The numbers of every element of the chunk.
  template <class Make>
  std::array<const T*, kCount> of_each(const Runs<kCoefficients>& runs, const Chunk& chunk, Make make) {
    for_some_runs(runs, chunk, [&](int64_t at, int64_t n, int64_t length, int64_t skip, int64_t elements) {
      T* out[kCount];
      for (size_t k = 0; k < kCount; ++k) out[k] = length == 1 ? each_[k].data + at : run_numbers_[k];
      make(n, values_of_, out);
      for (size_t k = 0; k < kCount && length > 1; ++k)
        kernels_of<T>().repeat(elements, length, skip, out[k], each_[k].data + at);
    });
    std::array<const T*, kCount> each;
    for (size_t k = 0; k < kCount; ++k) each[k] = each_[k].data;
    return each;
  }

 private:
  static constexpr int64_t kAtOnce = 128;

  static int64_t length_of_rows(const Runs<kCoefficients>& runs, const Chunk& chunk) {
    return chunk.rows > 1 ? chunk.width : std::max<int64_t>(runs.length(), 1);
  }

  // Reads the values of some runs at a time and calls take(at, n, length, skip, elements) for them:
  // the chunk's elements [at, at + elements) lie in n runs of `length` elements and begin `skip`
  // elements into the first run.
  template <class Take>
  void for_some_runs(const Runs<kCoefficients>& runs, const Chunk& chunk, Take take) {
    const int64_t end = chunk.first + chunk.count, length = runs.length() ? runs.length() : end,
                  last = (end - 1) / length;
    for (int64_t run = chunk.first / length, at = 0; run <= last; run += kAtOnce) {
      const int64_t n = std::min(kAtOnce, last + 1 - run);
      const int64_t skip = chunk.first + at - run * length,
                    elements = std::min(n * length - skip, chunk.count - at);
      read(runs, run, n, length);
      take(at, n, length, skip, elements);
      at += elements;
    }
  }

  // Reads the coefficients' values for n runs of `length` elements.
  void read(const Runs<kCoefficients>& runs, int64_t first, int64_t n, int64_t length) {
    for (size_t k = 0; k < kCoefficients; ++k) {
      if (runs[k].run() || read_ < n)
        runs[k].read(first, n, length, values_[k]);  // a value that serves all is read once
      values_of_[k] = values_[k];
    }
    read_ = std::max(read_, n);
  }

  int64_t read_ = 0, filled_ = 0;  // copies of the values that serve all: in values_, in each_
  double values_[kCoefficients][kAtOnce];
  const double* values_of_[kCoefficients];
  T run_numbers_[kCount][kAtOnce];
  Buffer<T> each_[kCount];
};

}  // namespace pyebm
