// A block of CUDA threads on one OS thread. A fiber runs until it blocks in a barrier or a warp
// collective, so that a missing barrier really reorders the code. PYEBM_EMULATOR_SEED gives the
// order of blocks, warps and threads: 0 as numbered, odd shuffled, even by random priorities (warps
// first). Only priorities show a write that overtakes another warp's read.
#pragma once

#include <random>
#include <utility>

#include "fiber.h"

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace cuda_on_cpu {

constexpr size_t kStaticShared = 48 << 10, kSharedAlignment = 128;

// The most shared memory of a block, in bytes: an H100's, or what the tests ask for.
inline int64_t most_shared() {
  const char* text = std::getenv("PYEBM_EMULATOR_SHARED");
  return text ? std::strtoll(text, nullptr, 10) : 227 << 10;
}

struct Warp {
  unsigned waiting = 0, mask = 0;
  uint64_t generation = 0;
  uint64_t slot[2][32];
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<unsigned> ready;
  std::vector<char> shared;
  size_t used = 0, dynamic = 0;  // bytes of static and of dynamic shared memory
  std::vector<std::pair<const void*, size_t>> tags;  // static shared arrays by the address of their tag
  unsigned threads = 0, live = 0, at_barrier = 0;
  Fiber* current = nullptr;
  Fiber host;
  std::mt19937_64 random;
  void (*entry)(void*) = nullptr;
  void* argument = nullptr;
  uint64_t barriers = 0;
  uint64_t* order = nullptr;  // TSan's sync objects of this block: two for barriers, two for each warp
  char started = 0, ended = 0;
  std::string error;
};

inline thread_local Block block;
inline thread_local uint3 thread_index, block_index;
inline thread_local dim3 block_dim, grid_dim;

inline void fail(const std::string& message) {
  if (block.error.empty()) block.error = message;
}

EMULATOR_OWN inline void park(State state) {
  Fiber* me = block.current;
  me->state = state;
  jump(*me, block.host, state == State::kDone);
}

inline void make_ready(Fiber& fiber) {
  fiber.state = State::kReady;
  block.ready.push_back(fiber.thread);
}

[[noreturn]] EMULATOR_OWN inline void boot() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &block.host.bottom, &block.host.size);
#endif
  acquire(&block.started);
  void (*entry)(void*);
  void* argument;
  {
    Quiet quiet;
    entry = block.entry;
    argument = block.argument;
  }
  entry(argument);
  release(&block.ended);
  park(State::kDone);
  std::abort();
}

inline void open_barrier() {
  block.at_barrier = 0;
  ++block.barriers;
  for (Fiber& fiber : block.fibers) {
    if (fiber.thread < block.threads && fiber.state == State::kAtBarrier) make_ready(fiber);
  }
}

inline void barrier() {
  Quiet quiet;
  void* order = block.order + (block.barriers & 1);  // two: a late leaver must not see an early arriver of the next one
  release(order);
  if (++block.at_barrier == block.live) {
    open_barrier();
    block.ready.push_back(block.current->thread);
    park(State::kReady);
  } else {
    park(State::kAtBarrier);
  }
  acquire(order);
}

// The lanes in `mask` meet, each with a value; returns which of the warp's two buffers then holds
// the values.
inline int meet(unsigned mask, uint64_t value) {
  Quiet quiet;
  Fiber* me = block.current;
  Warp& warp = block.warps[me->thread / 32];
  const unsigned lane = me->thread % 32, first = me->thread - lane;
  if (!(mask >> lane & 1)) fail("warp collective: the calling lane is not in the mask");
  for (unsigned l = 0; l < 32; ++l) {
    if ((mask >> l & 1) && (first + l >= block.threads || block.fibers[first + l].state == State::kDone)) {
      fail("warp collective: a lane named in the mask does not exist or has exited");
    }
  }
  if (warp.waiting && warp.mask != mask) fail("warp collective: lanes call with different masks");
  const int buffer = warp.generation & 1;
  void* order = block.order + 2 + 2 * (me->thread / 32) + buffer;
  warp.slot[buffer][lane] = value;
  warp.mask = mask;
  warp.waiting |= 1u << lane;
  release(order);
  if (!block.error.empty()) {
    warp.waiting = 0;
    return buffer;
  }
  if (warp.waiting == mask) {
    warp.waiting = 0;
    ++warp.generation;
    for (unsigned l = 0; l < 32; ++l) {
      if ((mask >> l & 1) && l != lane) make_ready(block.fibers[first + l]);
    }
    block.ready.push_back(me->thread);
    park(State::kReady);
  } else {
    park(State::kInWarp);
  }
  acquire(order);
  return buffer;
}

// Static shared memory: NaN at the start of every block, with red zones around each array.
inline void* shared_array(const void* tag, size_t size, size_t alignment) {
  Quiet quiet;
  for (auto& [known, at] : block.tags) {
    if (known == tag) return block.shared.data() + at;
  }
  const size_t at = (block.used + alignment - 1) / alignment * alignment;
  block.used = at + (size + 31) / 32 * 32 + 32;
  if (block.used > kStaticShared) throw std::runtime_error("cuda_on_cpu: more than 48 KiB of static shared memory");
  block.tags.push_back({tag, at});
  ASAN_UNPOISON_MEMORY_REGION(block.shared.data() + at, size);
  return block.shared.data() + at;
}

// Dynamic shared memory lies behind the static, NaN at the start of every block like that.
inline void* dynamic_shared() {
  const auto end = reinterpret_cast<uintptr_t>(block.shared.data() + block.shared.size()) - block.dynamic;
  return reinterpret_cast<void*>(end / kSharedAlignment * kSharedAlignment);
}

}  // namespace cuda_on_cpu
