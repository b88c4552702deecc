// A tensor as the chunk loops see it: flat runs of logical (row-major) elements, whatever the
// memory layout and the dtype.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

#include "../../common/fail.h"
#include "../../common/op_checks.h"
#include "../simd/kernel_table.h"

namespace pyebm {

using torch::headeronly::ScalarType;

class View {
 public:
  View() = default;
  explicit View(const Tensor& tensor)
      : data_(static_cast<char*>(tensor.numel() ? tensor.data_ptr() : nullptr)),
        type_(tensor.scalar_type()),
        bytes_(static_cast<int64_t>(tensor.element_size())),
        contiguous_(tensor.is_contiguous()),
        count_(tensor.numel()) {
    if (!contiguous_) {
      if (tensor.dim() > kMaxDims)
        fail("pyebm: tensors must have at most ", kMaxDims, " dimensions, got ", tensor.dim());
      for (int64_t d = 0; d < tensor.dim(); ++d) {
        if (tensor.size(d) == 1) continue;
        sizes_[dims_] = tensor.size(d);
        strides_[dims_++] = tensor.stride(d) * bytes_;
      }
    }
  }
  explicit View(const std::optional<Tensor>& tensor) : View(tensor ? View(*tensor) : View()) {}
  View(void* data, ScalarType type, int64_t count)  // contiguous
      : data_(static_cast<char*>(data)),
        type_(type),
        bytes_(type == ScalarType::Double ? 8 : 4),
        count_(count) {}

  explicit operator bool() const { return count_ > 0; }
  int64_t count() const { return count_; }
  ScalarType type() const { return type_; }
  bool is_half() const { return bytes_ == 2; }

  // Elements [first, first + n) as T: a pointer into the tensor where they lie there as T already,
  // else to a copy in `buffer`.
  template <class T>
  const T* read(int64_t first, int64_t n, T* buffer) const {
    if (contiguous_ && same<T>()) return reinterpret_cast<const T*>(data_) + first;
    if (same<T>()) {
      gather(first, n, reinterpret_cast<char*>(buffer));
      return buffer;
    }
    if constexpr (std::is_same_v<T, float>) {
      alignas(64) uint16_t narrow[kChunk];
      const uint16_t* source = reinterpret_cast<const uint16_t*>(data_) + first;
      if (!contiguous_) gather(first, n, reinterpret_cast<char*>(narrow)), source = narrow;
      (type_ == ScalarType::Half ? chunk_kernels().from_half : chunk_kernels().from_bfloat16)(source, n,
                                                                                              buffer);
    }
    return buffer;
  }

  // Where the elements from `first` on lie and how many bytes each takes; null if they don't lie
  // together.
  const char* memory(int64_t first) const { return count_ && contiguous_ ? data_ + first * bytes_ : nullptr; }
  int64_t element_bytes() const { return bytes_; }

  // The place to write elements [first, first + n) to: the tensor itself, or `buffer`, whose
  // elements `written` then moves into the tensor.
  template <class T>
  T* target(int64_t first, T* buffer) const {
    return contiguous_ && same<T>() ? reinterpret_cast<T*>(data_) + first : buffer;
  }

  template <class T>
  void written(int64_t first, int64_t n, const T* buffer) const {
    if (contiguous_ && same<T>()) return;
    if (same<T>()) return scatter(first, n, reinterpret_cast<const char*>(buffer));
    if constexpr (std::is_same_v<T, float>) {
      alignas(64) uint16_t narrow[kChunk];
      uint16_t* out = contiguous_ ? reinterpret_cast<uint16_t*>(data_) + first : narrow;
      (type_ == ScalarType::Half ? chunk_kernels().to_half : chunk_kernels().to_bfloat16)(buffer, n, out);
      if (!contiguous_) scatter(first, n, reinterpret_cast<const char*>(narrow));
    }
  }

  // Rounds n values to this tensor's precision.
  template <class T>
  void round(int64_t n, T* values) const {
    if constexpr (std::is_same_v<T, float>) {
      if (type_ == ScalarType::Float) return;
      const ChunkKernels& kernels = chunk_kernels();
      alignas(64) uint16_t narrow[kChunk];
      for (int64_t at = 0; at < n; at += kChunk) {
        const int64_t count = std::min(kChunk, n - at);
        (type_ == ScalarType::Half ? kernels.to_half : kernels.to_bfloat16)(values + at, count, narrow);
        (type_ == ScalarType::Half ? kernels.from_half : kernels.from_bfloat16)(narrow, count, values + at);
      }
    }
  }

 private:
  static constexpr int64_t kMaxDims = 16;

  template <class T>
  bool same() const {
    if (std::is_same_v<T, double>) return type_ == ScalarType::Double;
    if (std::is_same_v<T, uint8_t>) return true;  // a bool mask
    return type_ == ScalarType::Float;
  }

  // Calls visit(address, k) for the k-th of n elements from logical index `first`.
  template <class Visit>
  void walk(int64_t first, int64_t n, Visit visit) const {
    int64_t index[kMaxDims] = {};
    char* address = data_;
    for (int64_t d = dims_ - 1, rest = first; d >= 0; --d) {
      index[d] = rest % sizes_[d];
      rest /= sizes_[d];
      address += index[d] * strides_[d];
    }
    const int64_t inner = dims_ - 1;
    for (int64_t k = 0; k < n;) {
      const int64_t run = std::min(n - k, inner < 0 ? n : sizes_[inner] - index[inner]);
      const int64_t stride = inner < 0 ? 0 : strides_[inner];
      for (int64_t end = k + run; k < end; ++k, address += stride) visit(address, k);
      for (int64_t d = inner; d >= 0; --d) {
        index[d] += d == inner ? run : 1;
        if (index[d] < sizes_[d]) break;
        address += (d ? strides_[d - 1] : 0) - sizes_[d] * strides_[d];
        index[d] = 0;
      }
    }
  }

  template <class Word>
  void gather_words(int64_t first, int64_t n, char* out) const {
    walk(first, n,
         [&](const char* address, int64_t k) { std::memcpy(out + k * sizeof(Word), address, sizeof(Word)); });
  }
  void gather(int64_t first, int64_t n, char* out) const {
    if (bytes_ == 1) return gather_words<uint8_t>(first, n, out);
    if (bytes_ == 2) return gather_words<uint16_t>(first, n, out);
    if (bytes_ == 4) return gather_words<uint32_t>(first, n, out);
    return gather_words<uint64_t>(first, n, out);
  }

  template <class Word>
  void scatter_words(int64_t first, int64_t n, const char* in) const {
    walk(first, n,
         [&](char* address, int64_t k) { std::memcpy(address, in + k * sizeof(Word), sizeof(Word)); });
  }
  void scatter(int64_t first, int64_t n, const char* in) const {
    if (bytes_ == 2) return scatter_words<uint16_t>(first, n, in);
    if (bytes_ == 4) return scatter_words<uint32_t>(first, n, in);
    return scatter_words<uint64_t>(first, n, in);
  }

  char* data_ = nullptr;
  ScalarType type_ = ScalarType::Float;
  int64_t bytes_ = 0;
  bool contiguous_ = true;
  int64_t count_ = 0;
  int64_t dims_ = 0;
  int64_t sizes_[kMaxDims], strides_[kMaxDims];
};

// Calls body(T()) with the type that a tensor of this dtype is computed in.
template <class Body>
void with_compute_type(ScalarType type, Body body) {
  if (type == ScalarType::Double) return body(double());
  body(float());
}
template <class Body>
void with_compute_type(const Tensor& tensor, Body body) {
  with_compute_type(tensor.scalar_type(), body);
}

}  // namespace pyebm
