// Whether an element written in place may be another operand's that is still to be read.
#pragma once

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
  bool empty() const {
    for (int64_t d = 0; d < dims; ++d) {
      if (sizes[d] == 0) return true;
    }
    return false;
  }
};

// Is `distance` = sum_d k_d strides_d for some |k_d| < sizes_d? Dimensions are tried from the largest stride down, which is exact
// where each steps over all below it, as in any tensor that does not overlap itself.
inline bool is_reached(const Memory& memory, int64_t distance, uint64_t used = 0) {
  int64_t largest = -1;
  for (int64_t d = 0; d < memory.dims; ++d) {
    const bool open = !(used >> d & 1) && memory.sizes[d] > 1 && memory.strides[d] > 0;
    if (open && (largest < 0 || memory.strides[d] > memory.strides[largest])) largest = d;
  }
  if (largest < 0) return distance == 0;
  const int64_t stride = memory.strides[largest], size = memory.sizes[largest];
  const int64_t below = distance / stride - (distance % stride < 0);
  for (int64_t k = below; k <= below + 1; ++k) {
    if (-size < k && k < size && is_reached(memory, distance - k * stride, used | uint64_t{1} << largest)) return true;
  }
  return false;
}

// False where no element is shared, and where every element is shared with the one of the same index. In doubt, true.
inline bool overlaps_partly(const Memory& a, const Memory& b) {
  if (a.empty() || b.empty()) return false;
  if (a.data >= b.data + (b.reach() + 1) * b.item || b.data >= a.data + (a.reach() + 1) * a.item) return false;
  bool alike = a.dims == b.dims && a.item == b.item;
  for (int64_t d = 0; alike && d < a.dims; ++d)
    alike = a.sizes[d] == b.sizes[d] && (a.sizes[d] == 1 || a.strides[d] == b.strides[d]);
  if (!alike) return true;
  const int64_t bytes = a.data - b.data;
  if (bytes == 0) return false;
  return bytes % a.item != 0 || is_reached(a, bytes / a.item);
}

}  // namespace pyebm
