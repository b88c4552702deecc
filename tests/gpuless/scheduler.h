// Runs a grid: block after block, and in each block whichever thread the seed's order picks among
// those that can go on.
#pragma once

#include "block.h"

namespace cuda_on_cpu {

inline uint64_t seed() {
  const char* text = std::getenv("PYEBM_EMULATOR_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 0;
}

inline void start_block(unsigned threads) {
  ASAN_UNPOISON_MEMORY_REGION(block.shared.data(), block.shared.size());
  const size_t size = kStaticShared + block.dynamic + 2 * kSharedAlignment;
#if defined(__SANITIZE_THREAD__)
  std::vector<char>(size).swap(block.shared);  // a new address: no false order or race between blocks
#else
  block.shared.resize(size);
#endif
  std::memset(block.shared.data(), 0xFF, block.shared.size());
  ASAN_POISON_MEMORY_REGION(block.shared.data(), block.shared.size());
  ASAN_UNPOISON_MEMORY_REGION(dynamic_shared(), block.dynamic);
  block.tags.clear();
  block.used = 0;
  block.ready.clear();
  block.at_barrier = 0;
  block.live = threads;
  for (Warp& warp : block.warps) warp.waiting = 0, warp.generation = 0;
  uint64_t warp_priority = 0;
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& fiber = block.fibers[i];
    fiber.thread = i;
    if (i % 32 == 0) warp_priority = block.random();
    fiber.priority = (warp_priority & ~31ull) | (block.random() & 31);
    prepare(fiber, boot);
    make_ready(fiber);
  }
}

// Brings the thread that is to run next to ready[head].
inline void choose(uint64_t order, size_t head) {
  auto& ready = block.ready;
  size_t best = head;
  if (order & 1) {
    best = head + block.random() % (ready.size() - head);
  } else if (order) {
    for (size_t i = head + 1; i < ready.size(); ++i) {
      if (block.fibers[ready[i]].priority > block.fibers[ready[best]].priority) best = i;
    }
  }
  std::swap(ready[head], ready[best]);
}

inline void run_block(uint64_t order, unsigned threads) {
  unsigned done = 0;
  size_t head = 0;
  while (done < threads && block.error.empty()) {
    if (head == block.ready.size()) {
      unsigned in_barrier = 0, in_warp = 0;
      for (unsigned i = 0; i < threads; ++i) {
        in_barrier += block.fibers[i].state == State::kAtBarrier;
        in_warp += block.fibers[i].state == State::kInWarp;
      }
      return fail("deadlock: " + std::to_string(in_barrier) + " threads in __syncthreads, " + std::to_string(in_warp) +
                  " in a warp collective, " + std::to_string(done) + " exited");
    }
    choose(order, head);
    Fiber& fiber = block.fibers[block.ready[head++]];
    if (head > 4096) {
      block.ready.erase(block.ready.begin(), block.ready.begin() + static_cast<long>(head));
      head = 0;
    }
    block.current = &fiber;
    thread_index = {fiber.thread, 0, 0};
    jump(block.host, fiber);
    if (fiber.state != State::kDone) continue;
    ++done;
    --block.live;
    if (block.live && block.at_barrier == block.live) open_barrier();
  }
}

template <class Body>
void launch(unsigned blocks, unsigned threads, size_t shared, Body body) {
  Quiet quiet;
  if (threads == 0 || threads > 1024) throw std::runtime_error("cuda_on_cpu: bad launch configuration");
  static thread_local uint64_t launches = 0;
  const uint64_t order = seed();
  block.random.seed(order * 0x9E3779B97F4A7C15ull + ++launches);
  if (block.fibers.size() < threads) {
    block.fibers.resize(threads);
    char* stacks = new_stacks(threads);
    for (unsigned i = 0; i < threads; ++i) block.fibers[i].stack = stacks + i * kStack;
  }
  block.warps.resize((threads + 31) / 32);
  block.threads = threads;
  block.dynamic = shared;
  block.entry = [](void* argument) { (*static_cast<Body*>(argument))(); };
  block.argument = &body;
  block.error.clear();
  block_dim = threads;
  grid_dim = blocks;
  const size_t objects = 2 + 2 * block.warps.size();
  std::vector<uint64_t> sync(objects);
#if defined(__SANITIZE_THREAD__)
  sync.resize(objects * blocks);
  block.host.tsan = __tsan_get_current_fiber();
  std::vector<void*> finished;  // destroyed at the end only: TSan reuses ids, which would order blocks by accident
#endif
  release(&block.started);  // once a launch: threads of different blocks stay unordered
  std::vector<unsigned> turn(blocks);
  for (unsigned i = 0; i < blocks; ++i) turn[i] = i;
  for (unsigned i = blocks; order && i > 1; --i) std::swap(turn[i - 1], turn[block.random() % i]);
  for (unsigned i = 0; i < blocks && block.error.empty(); ++i) {
    block_index = {turn[i], 0, 0};
    block.order = sync.data() + (sync.size() > objects ? i * objects : 0);
    start_block(threads);
    run_block(order, threads);
#if defined(__SANITIZE_THREAD__)
    for (unsigned t = 0; t < threads; ++t) finished.push_back(block.fibers[t].tsan);
#endif
  }
#if defined(__SANITIZE_THREAD__)
  if (block.error.empty()) {
    for (void* fiber : finished) __tsan_destroy_fiber(fiber);
  }
#endif
  acquire(&block.ended);
  ASAN_UNPOISON_MEMORY_REGION(block.shared.data(), block.shared.size());
  if (!block.error.empty()) throw std::runtime_error("cuda_on_cpu: " + block.error);
}

}  // namespace cuda_on_cpu
