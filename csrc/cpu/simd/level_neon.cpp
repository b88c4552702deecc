// The kernels for arm64, where every machine has NEON with fused multiply-adds.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "../../common/normal.h"
#include "../../common/philox.h"
#include "../../common/targets.h"
#include "kernel_table.h"

namespace {

// Two calls at once, one 32-bit word in the low half of each 64-bit lane; the high halves hold what
// the multiply ignores.
struct PhiloxLanes {
  static constexpr int64_t kCount = 2;
  uint64x2_t lanes;

  PhiloxLanes() = default;
  explicit PhiloxLanes(uint64x2_t value) : lanes(value) {}
  explicit PhiloxLanes(uint32_t word) : lanes(vdupq_n_u64(word)) {}
  explicit PhiloxLanes(const uint32_t* words) : lanes(vmovl_u32(vld1_u32(words))) {}

  static PhiloxLanes counting_up(uint32_t first) {
    return PhiloxLanes(vcombine_u64(vcreate_u64(first), vcreate_u64(first + 1)));
  }

  // A word of each of 4 calls: those of `first`, then those of `second`.
  static uint32x4_t one_by_one(PhiloxLanes first, PhiloxLanes second) {
    return vuzp1q_u32(vreinterpretq_u32_u64(first.lanes), vreinterpretq_u32_u64(second.lanes));
  }

  // Two words of each call side by side: those of call 0, then those of call 1, ...
  static uint32x4_t in_turn(PhiloxLanes first, PhiloxLanes second) {
    return vreinterpretq_u32_u64(vsliq_n_u64(first.lanes, second.lanes, 32));
  }
};

PYEBM_HD PhiloxLanes operator+(PhiloxLanes a, uint32_t constant) {
  return PhiloxLanes(vaddq_u64(a.lanes, vdupq_n_u64(constant)));
}

PYEBM_HD void multiply(uint32_t constant, PhiloxLanes word, PhiloxLanes& high, PhiloxLanes& low) {
  low.lanes = vmull_u32(vmovn_u64(word.lanes), vdup_n_u32(constant));
  high.lanes = vshrq_n_u64(low.lanes, 32);
}

PYEBM_HD PhiloxLanes xor3(PhiloxLanes a, PhiloxLanes b, PhiloxLanes c) {
  return PhiloxLanes(veorq_u64(veorq_u64(a.lanes, b.lanes), c.lanes));
}

}  // namespace

#define PYEBM_PHILOX_LANES
#define PYEBM_NEON
#define PYEBM_VECTOR_BYTES 16
#include "level_table.h"

namespace pyebm {
extern const ChunkKernels neon_kernels = kernels_of("neon");
}
#endif
