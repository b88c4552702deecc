// Chooses the SIMD level at run time, so that one build is fast everywhere and illegal nowhere.
#include "kernel_table.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace pyebm {

extern const ChunkKernels baseline_kernels, avx2_kernels, avx512_kernels, neon_kernels;

namespace {

// Finds the best level whose name is `name`, or the best of all levels for nullptr. Returns nullptr
// where this machine has no level of that name.
const ChunkKernels* find(const char* name) {
  const auto wanted = [&](const ChunkKernels& kernels) { return !name || !std::strcmp(name, kernels.name); };
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && wanted(avx512_kernels)) {
    return &avx512_kernels;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && wanted(avx2_kernels))
    return &avx2_kernels;
#elif defined(__aarch64__)
  if (wanted(neon_kernels)) return &neon_kernels;
#endif
  return wanted(baseline_kernels) ? &baseline_kernels : nullptr;
}

std::atomic<const ChunkKernels*> current{find(nullptr)};

}  // namespace

const ChunkKernels& chunk_kernels() { return *current.load(std::memory_order_relaxed); }

}  // namespace pyebm

// For tests and benchmarks (pyebm._ops.simd): forces the level `level` unless it is null, and
// returns the name of the level in use, or null if this machine has no such level.
extern "C" __attribute__((visibility("default"))) const char* pyebm_simd(const char* level) {
  if (level) {
    const pyebm::ChunkKernels* found = pyebm::find(level);
    if (!found) return nullptr;
    pyebm::current = found;
  }
  return pyebm::chunk_kernels().name;
}
