// An argument that an op takes as one number or as many: one value for each sample, token or
// element.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cmath>
#include <limits>

#include "parallel.h"
#include "tensor_view.h"

namespace pyebm {

template <class T>
const ChunkKernels::Of<T>& kernels_of() {
  if constexpr (std::is_same_v<T, double>)
    return chunk_kernels().f64;
  else
    return chunk_kernels().f32;
}

// A coefficient: one number, or float32/float64 values.
class Coefficient {
 public:
  Coefficient(double number, const std::optional<Tensor>& rows = std::nullopt) : number_(number) {
    if (!rows) return;
    count_ = rows->numel();
    data_ = count_ ? rows->data_ptr() : nullptr;
    is_double_ = rows->scalar_type() == ScalarType::Double;
    stride_ = count_ == 1 ? 0 : rows->stride(0);
  }
  // The n values serve a tensor of `elements` elements, in logical order: each value serves
  // elements / n consecutive elements.
  Coefficient(double number, const std::optional<Tensor>& rows, int64_t elements)
      : Coefficient(number, rows) {
    run_ = count_ > 1 ? elements / count_ : 0;
  }
  Coefficient(const double* rows, int64_t count, int64_t elements)
      : number_(0),
        data_(rows),
        is_double_(true),
        count_(count),
        stride_(count == 1 ? 0 : 1),
        run_(count > 1 ? elements / count : 0) {}

  bool per_sample() const { return stride_ != 0; }
  int64_t run() const { return run_; }  // elements that one value serves; 0: one value serves all

  double operator[](int64_t index) const {
    if (!data_) return number_;
    return is_double_ ? static_cast<const double*>(data_)[index * stride_]
                      : static_cast<const float*>(data_)[index * stride_];
  }

  // Reads the values of n runs of `length` elements, from the run `first` on. `length` divides
  // run().
  void read(int64_t first, int64_t n, int64_t length, double* out) const {
    if (!run_) {
      std::fill(out, out + n, (*this)[0]);
    } else if (run_ != length) {
      const int64_t runs = run_ / length;  // runs that share a value
      int64_t index = first / runs;
      for (int64_t i = 0, end = runs - first % runs; i < n; end += runs, ++index) {
        const double value = (*this)[index];
        for (; i < std::min(n, end); ++i) out[i] = value;
      }
    } else if (is_double_) {
      copy(static_cast<const double*>(data_) + first * stride_, n, out);
    } else {
      copy(static_cast<const float*>(data_) + first * stride_, n, out);
    }
  }

  // The values of n samples as T: a pointer to where they lie, or to a copy in `room`.
  template <class T>
  const T* rows(int64_t first, int64_t n, T* room) const {
    if (lie_as<T>()) return static_cast<const T*>(data_) + first;
    if (!data_) {
      std::fill(room, room + n, static_cast<T>(number_));
    } else if (is_double_) {
      copy(static_cast<const double*>(data_) + first * stride_, n, room);
    } else {
      copy(static_cast<const float*>(data_) + first * stride_, n, room);
    }
    return room;
  }

  // Whether the values lie in memory as T, one after another.
  template <class T>
  bool lie_as() const {
    return data_ && stride_ == 1 && is_double_ == std::is_same_v<T, double>;
  }

  // The public calls check plain numbers; values that came as a tensor are checked here.
  void require_finite(const char* op, const char* name) const {
    if (is_double_ ? all_within<double>(kAny) : all_within<float>(kAny)) return;
    for (int64_t b = 0; b < count_; ++b) {
      if (!std::isfinite((*this)[b]))
        fail(op, ": ", name, " must be finite, got ", (*this)[b], " for sample ", b);
    }
  }
  const Coefficient& require(const char* op, const char* name, bool positive,
                             const char* one = "sample") const {
    const Sign sign = positive ? kPositive : kNotNegative;
    if (is_double_ ? all_within<double>(sign) : all_within<float>(sign)) return *this;
    for (int64_t b = 0; b < count_; ++b) {
      const double value = (*this)[b];
      if (!std::isfinite(value) || value < 0 || (positive && value == 0)) {
        fail(op, ": ", name, " must be ", positive ? "> 0" : ">= 0", " and finite, got ", value, " for ", one,
             " ", b);
      }
    }
    return *this;
  }

 private:
  enum Sign { kAny, kNotNegative, kPositive };

  template <class S, class T>
  void copy(const S* from, int64_t n, T* out) const {
    if (stride_ == 1) {
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(from[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(from[i * stride_]);
    }
  }

  // Checks many values at a time. The slower search for the first bad value runs only where this
  // check fails: for bad values, for strides, and for a positive number that is subnormal, which a
  // thread that flushes them would take for zero.
  template <class S>
  bool all_within(Sign sign) const {
    if (stride_ > 1) return false;
    using Limits = std::numeric_limits<S>;
    const S least = sign == kPositive ? Limits::min() : sign == kNotNegative ? S(0) : Limits::lowest();
    const S* values = static_cast<const S*>(data_);
    // An expanded tensor (stride 0) has one value for all, and memory for that value alone.
    const int64_t count = stride_ ? count_ : std::min<int64_t>(count_, 1);
    const auto& kernels = kernels_of<S>();
    constexpr int64_t kWorthAThread = 1 << 16;
    if (count <= kWorthAThread) return kernels.all_within(count, values, least);
    std::atomic<bool> good{true};
    const auto look = [&](int64_t begin, int64_t end) {
      if (!kernels.all_within(end - begin, values + begin, least)) good = false;
    };
    parallel(count, kWorthAThread, [&] { return look; });
    return good;
  }

  double number_;
  const void* data_ = nullptr;
  bool is_double_ = false;
  int64_t count_ = 0, stride_ = 0, run_ = 0;
};

}  // namespace pyebm
