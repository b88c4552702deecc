// Kernels with faults that PLANT_... switches on, for the tests of the checkers. Without a fault
// the program must run to its end.
#include "../../csrc/cuda/pack.h"

#include <cstdio>
#include <memory>
#include <vector>

namespace {

using pyebm::kThreads;

#if defined(PLANT_BARRIER_BEFORE_READ) || defined(PLANT_BARRIER_IN_TREE) || defined(PLANT_BARRIER_AT_REUSE)
constexpr bool kPlanted = true;
#else
constexpr bool kPlanted = false;
#endif

// Sums of neighbours through shared memory, twice with the same array.
__global__ void tree(float* out, const float* in) {
  PYEBM_SHARED(float, shared, kThreads);
  const unsigned t = threadIdx.x;
  for (int turn = 0; turn < 2; ++turn) {
    shared[t] = in[turn * kThreads + static_cast<int>(t)];
#if !defined(PLANT_BARRIER_BEFORE_READ)
    __syncthreads();
#endif
    for (unsigned half = kThreads / 2; half > 0; half /= 2) {
      if (t < half) shared[t] += shared[t + half];
#if !defined(PLANT_BARRIER_IN_TREE)
      __syncthreads();
#endif
    }
    if (t == kThreads - 1) out[turn] = shared[0];
#if !defined(PLANT_BARRIER_AT_REUSE)
    __syncthreads();
#endif
  }
}

// The last block adds what all blocks have left in memory.
__global__ void last_block(float* out, float* part, unsigned* ticket, const float* in, int count) {
  PYEBM_SHARED(bool, last, 1);
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int i = static_cast<int>(blockIdx.x); i < count; i += static_cast<int>(gridDim.x)) sum += in[i];
    part[blockIdx.x] = sum;
#if !defined(PLANT_FENCE)
    __threadfence();
#endif
    last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
#if !defined(PLANT_FENCE)
    __threadfence();
#endif
  }
  __syncthreads();
  if (last[0] && threadIdx.x == 0) {
    float total = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) total += part[b];
    *out = total;
  }
}

// Copies four elements at a time, then the rest one by one.
__global__ void copy(float* out, const float* in, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (4 * i + 4 <= count) {
    float values[4];
    pyebm::load_wide<4>(in + 4 * i, values);
    pyebm::store_wide<4>(out + 4 * i, values);
  } else {
#if defined(PLANT_OUT_OF_BOUNDS)
    for (int k = 4 * i; k <= count && k < 4 * i + 4; ++k) out[k] = in[k];
#else
    for (int k = 4 * i; k < count && k < 4 * i + 4; ++k) out[k] = in[k];
#endif
  }
}

// Each block writes an element of its own; with the fault, all blocks write the same one.
__global__ void own(float* out) {
#if defined(PLANT_BLOCKS)
  if (threadIdx.x == 0) out[0] = static_cast<float>(blockIdx.x);
#else
  if (threadIdx.x == 0) out[blockIdx.x] = static_cast<float>(blockIdx.x);
#endif
}

}  // namespace

int main() {
  using pyebm::launch;
  constexpr int kCount = 2 * kThreads;
  const auto array = [](int count) { return std::unique_ptr<float[]>(new float[static_cast<size_t>(count)]); };
  const auto in = array(kCount + 1), out = array(kCount);
  for (int i = 0; i < kCount; ++i) in[i] = static_cast<float>(i);
  void* stream = nullptr;
  launch<float*, const float*>("tree", tree, 1, 0, stream, out.get(), in.get());
  bool wrong = out[0] != kThreads * (kThreads - 1) / 2 || out[1] != kCount * (kCount - 1) / 2 - kThreads * (kThreads - 1) / 2;
  if (!kPlanted) {
    unsigned ticket = 0;
    const auto part = array(5);
    launch<float*, float*, unsigned*, const float*, int>("last_block", last_block, 5, 0, stream, out.get(), part.get(), &ticket,
                                                         in.get(), kCount);
    wrong = wrong || out[0] != kCount * (kCount - 1) / 2;
    const auto exact = array(kCount - 1), from = array(kCount - 1 + 1);
    for (int i = 0; i < kCount; ++i) from[i] = static_cast<float>(i);
#if defined(PLANT_MISALIGNED)
    const int shift = 1;
#else
    const int shift = 0;
#endif
    launch<float*, const float*, int>("copy", copy, 1, 0, stream, exact.get(), from.get() + shift, kCount - 1 - shift);
    for (int i = 0; i < kCount - 1 - shift; ++i) wrong = wrong || exact[i] != static_cast<float>(i + shift);
    launch<float*>("own", own, 5, 0, stream, out.get());
  }
  std::puts(wrong ? "wrong result" : "right");
  return wrong;
}
