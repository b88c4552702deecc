// The tensors of one call of an op as its checks see them: where each lies in memory and what it
// holds.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include "fail.h"
#include "op_args.h"
#include "overlap.h"

namespace pyebm {

class OpTensors {
 protected:
  explicit OpTensors(const char* op) : op_(op) {}

  static constexpr int kLike = 8, kMostOperands = 24;

  struct Operand {
    const char* name;
    int flags;
    torch::headeronly::ScalarType dtype;
    Memory memory;
    int64_t count;
    const char* end;  // one past its last byte; null for an empty tensor
  };
  struct Listed {
    const int64_t* numbers;
    int64_t count;
    friend std::ostream& operator<<(std::ostream& out, const Listed& list) {
      out << "(";
      for (int64_t k = 0; k < list.count; ++k) out << (k ? ", " : "") << list.numbers[k];
      return out << (list.count == 1 ? ",)" : ")");
    }
  };

  const Operand& x() const { return operands_[0]; }

  // Notes a tensor after checking that the op may use it: it lies on the first tensor's device
  // (with kOnHost, on the CPU), has the dtype, and has the memory that its sizes and strides
  // promise.
  const Operand& look(const char* name, const Tensor& tensor, Dtype dtype, int flags) {
    if (count_ == kMostOperands) fail(op_, ": has too many tensors");
    Operand& it = operands_[count_++];
    const AtenTensorHandle handle = tensor.get();
    int32_t device = 0, index = 0;
    int64_t available = 0, offset = 0;
    void* data = nullptr;
    int64_t *sizes = nullptr, *strides = nullptr;
    Memory& memory = it.memory;
    bool defined = false;  // false where the caller gave None
    TORCH_ERROR_CODE_CHECK(aoti_torch_is_defined(handle, &defined));
    if (!defined) fail(op_, ": ", name, " must be a tensor, got None");
    it.name = name, it.flags = flags, it.dtype = tensor.scalar_type();
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(handle, &device));
#if defined(__CUDACC__)
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(handle, &index));
#endif
    if (count_ == 1) device_ = device, index_ = index;
    if (flags & kOnHost) {
      if (device != aoti_torch_device_type_cpu()) fail(op_, ": ", name, " must be on the CPU");
    } else if (device != device_ || index != index_) {
      fail(op_, ": ", name, " must be on ", x().name, "'s device");
    }
    require_dtype(it, dtype);
    memory.item = bytes_of(it.dtype);
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_dim(handle, &memory.dims));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_sizes(handle, &sizes));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_strides(handle, &strides));
    memory.sizes = sizes, memory.strides = strides, memory.data = nullptr;
    it.count = 1;
    bool contiguous = true;
    for (int64_t d = memory.dims - 1; d >= 0; --d) {
      contiguous = contiguous && (sizes[d] == 1 || strides[d] == it.count);
      it.count *= sizes[d];
    }
    it.end = nullptr;
    if (!it.count) return it;
    if (!contiguous) {
      if (flags & kContiguous)
        fail(op_, ": ", name, " must be contiguous, got strides ", Listed{strides, memory.dims});
      if ((flags & kWritten) && memory.overlaps_itself()) {
        fail(op_, ": ", name, " must not be expanded or overlap itself, got strides ",
             Listed{strides, memory.dims}, "; clone it");
      }
    }
    // A tensor of zeros that autograd made has no memory, and a caller may have resized the storage
    // under a tensor.
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_data_ptr(handle, &data));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(handle, &available));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_offset(handle, &offset));
    const int64_t bytes = (contiguous ? it.count : memory.reach() + 1) * memory.item;
    if (!data || offset * memory.item + bytes > available) {
      fail(op_, ": ", name, "'s storage must hold its ", it.count, " elements, got ", data ? available : 0,
           " bytes");
    }
    memory.data = static_cast<const char*>(data);
    it.end = memory.data + bytes;
    return it;
  }

  // A written tensor must share no memory with another argument, unless the op works element by
  // element and combines only elements of the same index. Runs after all other checks.
  void overlaps() const {
    for (int i = 0; i < count_; ++i) {
      const Operand& a = operands_[i];
      if (!(a.flags & kWritten) || !a.count) continue;
      for (int j = 0; j < count_; ++j) {
        const Operand& b = operands_[j];
        if (j == i || a.end <= b.memory.data || b.end <= a.memory.data || ((b.flags & kWritten) && j < i))
          continue;
        const bool elementwise =
            (a.flags & b.flags & kLike) && !((a.flags | b.flags) & kApart) && !(b.flags & kWritten);
        if ((elementwise && a.memory.is(b.memory)) || !SharedBytes::exist(a.memory, b.memory)) continue;
        fail(op_, ": ", b.name, " must not overlap ", a.name, elementwise ? " in part" : "",
             "; clone one of them");
      }
    }
  }

  const char* op_;

 private:
  void require_dtype(const Operand& it, Dtype dtype) const {
    using torch::headeronly::ScalarType;
    const ScalarType type = it.dtype, same = x().dtype;
    const ScalarType work = same == ScalarType::Double ? same : ScalarType::Float;
    const bool real = type == ScalarType::Float || type == ScalarType::Double;
    switch (dtype) {
      case Dtype::kFloats:
        return require(real || type == ScalarType::Half || type == ScalarType::BFloat16, it,
                       "float16, bfloat16, float32 or float64");
      case Dtype::kSame:
        return require(type == same, it, name_of(same));
      case Dtype::kWork:
        return require(type == work, it, name_of(work));
      case Dtype::kReal:
        return require(real, it, "float32 or float64");
      case Dtype::kDouble:
        return require(type == ScalarType::Double, it, "float64");
      case Dtype::kLong:
        return require(type == ScalarType::Long, it, "int64");
      case Dtype::kBool:
        return require(type == ScalarType::Bool, it, "bool");
    }
  }
  void require(bool fits, const Operand& it, const char* expected) const {
    if (!fits) fail(op_, ": ", it.name, " must be ", expected, ", got ", name_of(it.dtype));
  }

  static int64_t bytes_of(torch::headeronly::ScalarType type) {
    using torch::headeronly::ScalarType;
    if (type == ScalarType::Double || type == ScalarType::Long) return 8;
    return type == ScalarType::Float ? 4 : type == ScalarType::Bool ? 1 : 2;  // no other passes the checks
  }
  static const char* name_of(torch::headeronly::ScalarType type) {
    using torch::headeronly::ScalarType;
    switch (type) {
      case ScalarType::Float:
        return "float32";
      case ScalarType::Double:
        return "float64";
      case ScalarType::Half:
        return "float16";
      case ScalarType::BFloat16:
        return "bfloat16";
      case ScalarType::Long:
        return "int64";
      case ScalarType::Bool:
        return "bool";
      default:
        return torch::headeronly::toString(type);
    }
  }
  int32_t device_ = 0, index_ = 0;
  int count_ = 0;
  Operand operands_[kMostOperands];
};

}  // namespace pyebm
