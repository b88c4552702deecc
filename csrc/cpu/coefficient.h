// What an op takes as a number or as one value for each sample.
#pragma once

#include <cmath>

#include "tensor_view.h"

namespace pyebm {

// A coefficient: one number, or a float32/float64 value per sample.
class Coefficient {
 public:
  Coefficient(double number, const std::optional<Tensor>& rows) : number_(number) {
    if (!rows) return;
    count_ = rows->numel();
    data_ = count_ ? rows->data_ptr() : nullptr;
    is_double_ = rows->scalar_type() == ScalarType::Double;
    stride_ = count_ == 1 ? 0 : rows->stride(0);
  }
  Coefficient(const double* rows, int64_t count)
      : number_(0), data_(rows), is_double_(true), count_(count), stride_(count == 1 ? 0 : 1) {}

  bool per_sample() const { return stride_ != 0; }

  double operator[](int64_t sample) const {
    if (!data_) return number_;
    return is_double_ ? static_cast<const double*>(data_)[sample * stride_] : static_cast<const float*>(data_)[sample * stride_];
  }

  // The public calls check numbers; what came as a tensor is checked here.
  const Coefficient& require(const char* op, const char* name, bool positive, const char* one = "sample") const {
    for (int64_t b = 0; b < count_; ++b) {
      const double value = (*this)[b];
      if (!std::isfinite(value) || value < 0 || (positive && value == 0)) {
        fail(op, ": ", name, " must be ", positive ? "> 0" : ">= 0", " and finite, got ", value, " for ", one, " ", b);
      }
    }
    return *this;
  }

 private:
  double number_;
  const void* data_ = nullptr;
  bool is_double_ = false;
  int64_t count_ = 0, stride_ = 0;
};

}  // namespace pyebm
