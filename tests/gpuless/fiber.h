// One CUDA thread as a fiber: its own stack, switched to and from by hand, in a way that ASan and
// TSan understand.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) (static_cast<void>(address), static_cast<void>(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) (static_cast<void>(address), static_cast<void>(size))
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
void AnnotateBenignRaceSized(const char*, int, const volatile void*, long, const char*);
}
#define EMULATOR_OWN __attribute__((no_sanitize_thread))
#else
#define EMULATOR_OWN
#endif

namespace cuda_on_cpu {

// While one of these lives, TSan looks away: the emulator's own bookkeeping is no business of the
// kernel's.
struct Quiet {
#if defined(__SANITIZE_THREAD__)
  Quiet() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Quiet() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  Quiet() {}
#endif
};

// Tells TSan that everything before a release of `at` comes before everything after an acquire of
// `at`.
EMULATOR_OWN inline void release([[maybe_unused]] void* at) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(at);
#endif
}
EMULATOR_OWN inline void acquire([[maybe_unused]] void* at) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(at);
#endif
}

constexpr size_t kStack = 128 << 10;

enum class State { kReady, kAtBarrier, kInWarp, kDone };

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  State state = State::kDone;
  unsigned thread = 0;    // its index in the block
  uint64_t priority = 0;  // the highest runs first, where the order is by priority
#if !defined(__x86_64__)
  ucontext_t context;
#endif
#if defined(__SANITIZE_THREAD__)
  void* tsan = nullptr;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  const void* bottom = nullptr;  // of the host's stack, which is not ours
  size_t size = 0;
#endif
};

#if defined(__x86_64__)
extern "C" void cuda_on_cpu_switch(void** save, void* load);
asm(R"(
  .pushsection .text
  .weak cuda_on_cpu_switch
  .type cuda_on_cpu_switch,@function
cuda_on_cpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size cuda_on_cpu_switch, .-cuda_on_cpu_switch
  .popsection
)");
#endif

__attribute__((noinline)) inline void jump(Fiber& from, Fiber& to, [[maybe_unused]] bool dying = false) {
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(dying ? nullptr : &from.fake_stack, to.stack ? to.stack : to.bottom, to.stack ? kStack : to.size);
#endif
#if defined(__x86_64__)
  cuda_on_cpu_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(from.fake_stack, &bottom, &size);
#endif
}

// A fiber that will start in `boot` on its (reused) stack.
inline void prepare(Fiber& fiber, void (*boot)()) {
  ASAN_UNPOISON_MEMORY_REGION(fiber.stack, kStack);  // frames that a finished fiber never left
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(fiber.stack + kStack);
  *--top = nullptr;  // the stack is 16 n + 8 at a function's entry
  *--top = reinterpret_cast<void*>(boot);
  top -= 6;
  std::memset(top, 0, 6 * sizeof(void*));
  fiber.stack_pointer = top;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = kStack;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, boot, 0);
#endif
#if defined(__SANITIZE_THREAD__)
  fiber.tsan = __tsan_create_fiber(0);
#endif
}

inline char* new_stacks(size_t count) {
  void* memory = mmap(nullptr, count * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("cuda_on_cpu: no memory for the threads' stacks");
#if defined(__SANITIZE_THREAD__)
  AnnotateBenignRaceSized(__FILE__, __LINE__, memory, static_cast<long>(count * kStack), "later blocks reuse the stacks");
#endif
  return static_cast<char*>(memory);
}

}  // namespace cuda_on_cpu
