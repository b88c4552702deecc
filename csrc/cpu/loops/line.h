// Memory for the kernels' intermediate numbers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace pyebm {

// Blocks of memory that this thread keeps from one call to the next. Without it malloc gives large
// blocks back to the system as soon as other code frees memory too, and each page of the next call
// costs a fault.
class KeptMemory {
 public:
  static void* take(size_t bytes) {
    KeptMemory& kept = of_thread();
    const auto same = [&](const Block& block) { return block.bytes == bytes; };
    const auto found = std::find_if(kept.blocks_.begin(), kept.blocks_.end(), same);
    if (found == kept.blocks_.end()) return ::operator new(bytes, kAlignment);
    void* memory = found->memory;
    kept.bytes_ -= bytes;
    kept.blocks_.erase(found);
    return memory;
  }

  // Keeps a block, in place of those that have been idle for longest. Malloc keeps the small ones.
  static void give_back(void* memory, size_t bytes) {
    constexpr size_t kLeast = size_t{1} << 14, kMost = size_t{1} << 22;
    if (bytes < kLeast || bytes > kMost) return ::operator delete(memory, kAlignment);
    KeptMemory& kept = of_thread();
    kept.blocks_.push_back({memory, bytes});
    for (kept.bytes_ += bytes; kept.bytes_ > kMost; kept.blocks_.erase(kept.blocks_.begin())) {
      kept.bytes_ -= kept.blocks_.front().bytes;
      ::operator delete(kept.blocks_.front().memory, kAlignment);
    }
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Block {
    void* memory;
    size_t bytes;
  };

  ~KeptMemory() {
    for (const Block& block : blocks_) ::operator delete(block.memory, kAlignment);
  }
  static KeptMemory& of_thread() {
    thread_local KeptMemory kept;
    return kept;
  }

  std::vector<Block> blocks_;
  size_t bytes_ = 0;
};

// n elements of uninitialised memory that begin at a cache line, with a line of zeros before and
// behind them, for kernels that read one element past an end.
template <class T>
class Line {
 public:
  explicit Line(int64_t n)
      : bytes_((n + 2 * kPad) * sizeof(T)), memory_(static_cast<T*>(KeptMemory::take(bytes_))) {
    std::fill(memory_, memory_ + kPad, T(0));
    std::fill(memory_ + kPad + n, memory_ + 2 * kPad + n, T(0));
  }
  Line(const Line&) = delete;
  ~Line() { KeptMemory::give_back(memory_, bytes_); }
  T* data() const { return memory_ + kPad; }

 private:
  static constexpr int64_t kPad = 64 / sizeof(T);
  size_t bytes_;
  T* memory_;
};

}  // namespace pyebm
