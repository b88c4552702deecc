// Chooses the SIMD level at run time, so that one build is fast everywhere and illegal nowhere.
#include <atomic>
#include <cstring>

#include "../../common/fail.h"
#include "kernel_table.h"

namespace pyebm {

// Weak, since a build with PYEBM_SIMD=native has one of them alone: the others' addresses are null.
#define PYEBM_LEVEL(level) extern const ChunkKernels level##_kernels __attribute__((weak))
PYEBM_LEVEL(baseline);
PYEBM_LEVEL(avx2);
PYEBM_LEVEL(avx512);
PYEBM_LEVEL(neon);

namespace {

// Finds the best level whose name is `name`, or the best of all levels for nullptr. Returns nullptr
// where this machine or this build has no level of that name.
const ChunkKernels* find(const char* name) {
  const auto wanted = [&](const ChunkKernels* kernels) {
    return kernels && (!name || !std::strcmp(name, kernels->name));
  };
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && wanted(&avx512_kernels)) {
    return &avx512_kernels;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
      wanted(&avx2_kernels))
    return &avx2_kernels;
#elif defined(__aarch64__)
  if (wanted(&neon_kernels)) return &neon_kernels;
#endif
  return wanted(&baseline_kernels) ? &baseline_kernels : nullptr;
}

std::atomic<const ChunkKernels*> current{find(nullptr)};

}  // namespace

const ChunkKernels& chunk_kernels() {
  const ChunkKernels* kernels = current.load(std::memory_order_relaxed);
  if (!kernels) fail_to_run("pyebm's kernels were built for another machine's SIMD level alone");
  return *kernels;
}

}  // namespace pyebm

// For tests and benchmarks (pyebm._ops.simd): forces the level `level` unless it is null, and
// returns the name of the level in use, or null if this machine or this build has no such level.
extern "C" __attribute__((visibility("default"))) const char* pyebm_simd(const char* level) {
  const pyebm::ChunkKernels* found = level ? pyebm::find(level) : pyebm::current.load();
  if (level && found) pyebm::current = found;
  return found ? found->name : nullptr;
}
