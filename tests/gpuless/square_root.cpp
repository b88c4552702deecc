// Tries root_from_estimate (csrc/common/normal.h) for every float32 x of two binades, which stand
// for all others by powers of four, and every estimate of 1 / sqrt(x) whose relative error is at
// most 2^-22.9, the bound that PTX states for rsqrt.approx.ftz.f32.
#include "../../csrc/common/normal.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  const double worst = argc > 1 ? std::atof(argv[1]) : std::exp2(-22.9);
  const uint32_t stride = argc > 1 ? 1000003 : 1;
  long tried = 0, wrong = 0;
  for (uint32_t bits = 0x3F800000u; bits < 0x40800000u; bits += stride) {
    const float x = bits_float(bits), root = sqrt_rounded(x);
    const double exact = 1 / std::sqrt(static_cast<double>(x));
    const auto most = static_cast<float>(exact * (1 + 2 * worst));
    for (auto y = static_cast<float>(exact * (1 - 2 * worst)); y <= most; y = std::nextafterf(y, 4)) {
      if (std::fabs(y / exact - 1) > worst) continue;
      ++tried;
      wrong += root_from_estimate(x, y, [](float a, float b, float c) { return std::fmaf(a, b, c); }) != root;
    }
  }
  std::printf("%ld tried, %ld wrong\n", tried, wrong);
}
