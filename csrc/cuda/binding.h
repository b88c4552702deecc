// The way from torch's tensors to a launch, on LibTorch's stable ABI: device, stream, dtype,
// layout, and the checks that a GPU op makes first.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <initializer_list>
#include <optional>

#include "../common/op_checks.h"
#include "normals.h"

#if defined(__CUDACC__)
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#define PYEBM_CUDA_IMPL(module) STABLE_TORCH_LIBRARY_IMPL(pyebm, CUDA, module)
#else
#define PYEBM_CUDA_IMPL(module) STABLE_TORCH_LIBRARY_IMPL(pyebm_cuda_emulated, CPU, module)
#endif

namespace pyebm {

using torch::headeronly::ScalarType;

// One call of an op. It launches on the device of `like`, on that device's current stream.
class Call {
 public:
#if defined(__CUDACC__)
  Call(const char* op, const Tensor& like) : op(op), device_(like.get_device_index()), guard_(device_) {
    void* current = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_, &current));
    stream = static_cast<Stream>(current);
  }
#else
  Call(const char* op, const Tensor&) : op(op) {}
#endif

  // Refuses a dtype that op_checks.h allows, where the kernel takes only one of two.
  void expect(const char* name, const Tensor& tensor, ScalarType type) const {
    if (tensor.scalar_type() != type)
      fail(op, ": ", name, " must have the dtype that the samples are computed in");
  }

  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), int64_t blocks, const Arguments&... arguments) const {
    launch_with(0, kernel, blocks, arguments...);
  }
  // launch, with `shared` bytes of PYEBM_DYNAMIC_SHARED.
  template <class... Parameters, class... Arguments>
  void launch_with(int64_t shared, void (*kernel)(Parameters...), int64_t blocks,
                   const Arguments&... arguments) const {
    pyebm::launch<Parameters...>(op, kernel, blocks, shared, stream, static_cast<Parameters>(arguments)...);
  }
  int64_t most_shared() const { return pyebm::most_shared(device_); }

  NoiseName noise(const MaybeTensor& name, const MaybeTensor& seeds, const MaybeTensor& ids) const {
    if (!name) fail("noise: a name must be given where there is no noise tensor");
    const auto* named = static_cast<const int64_t*>(name->data_ptr());
    if (reinterpret_cast<uint64_t>(named) % 16) fail("noise: name must begin at a multiple of 16 bytes");
    return {named, words(seeds), words(ids)};
  }

  const char* op;
  Stream stream = nullptr;

 private:
  static const int64_t* words(const MaybeTensor& tensor) {
    return tensor && tensor->numel() ? static_cast<const int64_t*>(tensor->data_ptr()) : nullptr;
  }

  int32_t device_ = 0;
#if defined(__CUDACC__)
  torch::stable::accelerator::DeviceGuard guard_;
#endif
};

template <class S>
S* pointer(const Tensor& tensor) {
  return tensor.numel() ? static_cast<S*>(tensor.data_ptr()) : nullptr;
}
template <class S>
S* pointer(const MaybeTensor& tensor) {
  return tensor ? pointer<S>(*tensor) : nullptr;
}

// A workspace from the caching allocator, which reuses the memory on the same stream only.
template <class T>
Tensor workspace(const Tensor& like, int64_t count) {
  const int64_t bytes[] = {count * static_cast<int64_t>(sizeof(T))};
  Tensor workspace = torch::stable::new_empty(like, {bytes, 1}, ScalarType::Byte);
#if !defined(__CUDACC__)
  cuda_on_cpu::allocated(workspace.data_ptr(), bytes[0]);
#endif
  return workspace;
}

inline int64_t elements_of(const Tensor& tensor) {
  return tensor.size(0) ? tensor.numel() / tensor.size(0) : 0;
}

// The operands in the kernel's order, null for one that the call lacks. The first gives the shape.
using Operands = std::initializer_list<const Tensor*>;

inline const Tensor* get(const MaybeTensor& tensor) { return tensor ? &*tensor : nullptr; }

inline bool has_dense_rows(const Tensor& tensor) {
  int64_t expected = 1;
  for (int64_t d = tensor.dim() - 1; d > 0; --d) {
    if (tensor.size(d) != 1 && tensor.stride(d) != expected) return false;
    expected *= tensor.size(d);
  }
  return true;
}

inline int64_t sample_stride(const Tensor* tensor) {
  return tensor && tensor->size(0) > 1 ? tensor->stride(0) : 0;
}

// Whether every operand holds each sample's elements side by side, and all operands except number
// kMaxOperands have the same distance between samples.
inline bool are_rows(Operands operands) {
  size_t index = 0;
  for (const Tensor* tensor : operands) {
    const bool last = ++index == kMaxOperands;
    if (tensor &&
        !(has_dense_rows(*tensor) && (last || sample_stride(tensor) == sample_stride(*operands.begin()))))
      return false;
  }
  return true;
}

template <int kGranule>
RowLayout<kGranule> rows_layout(const Pieces& pieces, Operands operands) {
  const auto stride = static_cast<uint64_t>(sample_stride(*operands.begin()));
  RowLayout<kGranule> layout{pieces, stride * RowLayout<kGranule>::kItem, 0, 0, 0};
  layout.misfit = static_cast<uint32_t>(stride) & (kGranule - 1);
  if (operands.size() == kMaxOperands)
    layout.last_stride = static_cast<uint64_t>(sample_stride(operands.begin()[kMaxOperands - 1]));
  for (const Tensor* tensor : operands) {
    if (!tensor) continue;
    const uint64_t bytes = kGranule * static_cast<uint64_t>(tensor->element_size()),
                   aligned = bytes < 16 ? bytes : 16;
    const auto misfit = static_cast<uint32_t>(sample_stride(tensor)) & (kGranule - 1);
    if (misfit != layout.misfit || reinterpret_cast<uint64_t>(tensor->data_ptr()) % aligned)
      layout.narrow = 1;
  }
  return layout;
}

// Merges neighbouring dimensions that every operand can walk as one.
inline Strided strided_layout(const char* op, const Pieces& pieces, Operands operands) {
  Strided layout{pieces, {}, 0, {}, {}};
  for (size_t k = 0; k < operands.size(); ++k) layout.sample_strides[k] = sample_stride(operands.begin()[k]);
  const Tensor& first = **operands.begin();
  int64_t inner_size = 0;
  for (int64_t d = first.dim() - 1; d > 0; --d) {
    if (first.size(d) == 1) continue;
    bool merges = layout.dims > 0;
    int index = 0;
    for (const Tensor* tensor : operands) {
      const int at = index++;
      if (merges && tensor) merges = tensor->stride(d) == layout.strides[at][layout.dims - 1] * inner_size;
    }
    if (merges) {
      inner_size *= first.size(d);
    } else {
      if (layout.dims == kMaxDims)
        fail(op, ": tensors must have at most ", kMaxDims, " dimensions, got ", first.dim());
      inner_size = first.size(d);
      ++layout.dims;
      index = 0;
      for (const Tensor* tensor : operands)
        layout.strides[index++][layout.dims - 1] = tensor ? tensor->stride(d) : 0;
    }
    layout.sizes[layout.dims - 1] = Divider(inner_size);
  }
  return layout;
}

// Calls body(layout) with the layout that fits the operands, whose dtype is S; kStrided asks for
// the layout that fits any operands, kCount for pieces of another length.
template <class S, bool kStrided = false, int kCount = kCountOf<S, RowLayout<kGranule<S>>>, class Body>
void with_layout(const Call& call, Operands operands, Body body) {
  const Tensor& first = **operands.begin();
  if (first.numel() == 0) return;
  const int64_t samples = first.size(0), elements = elements_of(first);
  if constexpr (!kStrided) {
    if (elements > 8 && are_rows(operands))
      return body(rows_layout<kGranule<S>>(Pieces(samples, elements, kCount), operands));
  }
  body(strided_layout(call.op, Pieces(samples, elements, kCountOf<S, Strided>), operands));
}

template <class S>
struct Type {
  using type = S;
};

// Calls body(Type<S>()) with the element type of a tensor.
template <class Body>
void with_dtype(const char* op, const Tensor& tensor, Body body) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return body(Type<float>());
    case ScalarType::Double:
      return body(Type<double>());
    case ScalarType::Half:
      return body(Type<__half>());
    case ScalarType::BFloat16:
      return body(Type<__nv_bfloat16>());
    default:
      fail(op, ": samples must be float16, bfloat16, float32 or float64");
  }
}

}  // namespace pyebm
