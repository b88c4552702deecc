// target_score: the score of a closed-form target; target_energy: its energy too.
#include "../loops/targets.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

namespace pyebm {
namespace {

void target_score(const args::TargetScore& args) {
  const Tensor &x = args.x, &params = args.params;
  const View result(args.out), state(x);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const TargetOf<T>& kernels = checked_target<T>("target_score", args.target, params, Shape(x));
    const int64_t at_once = samples_at_once(kernels, x.size(0));
    const Shape shape(x, at_once);
    const Blocks blocks(shape, !kernels.elementwise, at_once, step_cost(kernels, shape, params));
    for_each_block(blocks, [&] {
      return [&, work = BlockBuffers<T>(blocks, kernels, params)](const Block& block) mutable {
        work.read(state, block);
        work.make_score(state, block);
        work.write(result, block.first, block, work.score());
      };
    });
  });
}

void target_energy(const args::TargetEnergy& args) {
  const char* op = "target_energy";
  const Tensor &x = args.x, &params = args.params;
  const View result(args.score), state(x);
  const int64_t samples = x.size(0);
  const bool is_double = args.energy.scalar_type() == ScalarType::Double;
  static_assert(kEnergySpan == kChunk);
  const int64_t parts = std::max<int64_t>(Shape(x).chunks_per_sample, 1);
  std::vector<double> partial;
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const TargetOf<T>& kernels = checked_target<T>(op, args.target, params, Shape(x));
    if (!kernels.score_and_energy)
      fail(op, ": the target ", kTargetFacts[args.target].name, " has no energy of its own");
    // The blocks are those of target_score. A sample that lies in many blocks gets a part of its
    // energy from each.
    const int64_t at_once = samples_at_once(kernels, samples);
    const int64_t each = kernels.elementwise ? parts : 1;
    partial.resize(samples * each);
    const Shape shape(x, at_once);
    const Blocks blocks(shape, !kernels.elementwise, at_once, step_cost(kernels, shape, params));
    for_each_block(blocks, [&] {
      const Block largest = blocks[0];
      return [&, work = BlockBuffers<T>(blocks, kernels, params),
              room = Line<T>(largest.count + largest.rows)](const Block& block) mutable {
        work.read(state, block);
        work.make_both(state, block, room.data(),
                       partial.data() + block.sample * each + block.element / kChunk);
        work.write(result, block.first, block, work.score());
      };
    });
  });
  if (!samples) return;
  const int64_t each = static_cast<int64_t>(partial.size()) / samples;
  for (int64_t b = 0; b < samples; ++b) {
    double sum = partial[b * each];
    for (int64_t k = 1; k < each; ++k) sum += partial[b * each + k];
    if (is_double) {
      static_cast<double*>(args.energy.data_ptr())[b] = sum + args.constant;
    } else {
      static_cast<float*>(args.energy.data_ptr())[b] = static_cast<float>(sum + args.constant);
    }
  }
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  PYEBM_IMPL(m, target_score);
  PYEBM_IMPL(m, target_energy);
}

// Lets Python compare its table of targets with the one that the kernels were built with (_ops.py).
extern "C" __attribute__((visibility("default"))) const char* pyebm_targets() {
  return pyebm::targets_text();
}

// Whether the rows of `a`, which lie one after another, are the same as the rows of `b`, which
// begin every `stride` bytes (pyebm/targets/_kept.py). Compares at the memory's speed, on several
// threads where they are worth waking.
extern "C" __attribute__((visibility("default"))) bool pyebm_same(const char* a, const char* b, int64_t rows,
                                                                  int64_t width, int64_t stride) {
  constexpr int64_t kWorthAThread =
      1 << 19;  // bytes that one thread compares in the 5 us or so in which another wakes
  if (a == b && width == stride) return true;
  std::atomic<bool> same{true};
  const auto compare = [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      if (std::memcmp(a + m * width, b + m * stride, width)) same = false;
    }
  };
  if (width == stride) {  // one run of memory, whose rows may be as long as we like
    constexpr int64_t kRow = 1 << 12;
    const int64_t all = rows * width, left = all % kRow;
    if (std::memcmp(a + all - left, b + all - left, left)) return false;
    rows = all / kRow;
    width = stride = kRow;
  }
  pyebm::parallel(rows, std::max<int64_t>(kWorthAThread / std::max<int64_t>(width, 1), 1),
                  [&] { return compare; });
  return same;
}
