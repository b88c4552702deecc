// underdamped_chain: many steps of underdamped Langevin dynamics. Each step gives the bits of the
// two affine steps and the score between them that it consists of (pyebm/samplers/underdamped.py).
#include "../loops/chain.h"
#include "../loops/density.h"

namespace pyebm {
namespace {

// The coefficients b, c, d, e and f of a step: x' = (x + b w) + c z, and w' = (d w + e s(x')) + f
// z.
struct Coefficients {
  static constexpr int64_t kCount = 5;
  const double* numbers;
  bool per_step;

  const double* at(int64_t k) const { return numbers + (per_step ? k * kCount : 0); }
};

template <class T, class Work>
class UnderdampedSteps : public StepsOfBlock<T, Work> {
  using Base = StepsOfBlock<T, Work>;
  using Base::given_, Base::work_;

 public:
  using Base::x;

  template <class Make>
  UnderdampedSteps(const Blocks& blocks, Make make, const Given& given, const View& velocity,
                   const Coefficients& coefficients, const Bounds<T>& bounds)
      : Base(blocks.shape, make, given),
        velocity_(velocity),
        coefficients_(coefficients),
        w_(blocks[0].count),
        z_(blocks[0].count) {
    clamp_.low = bounds.low, clamp_.high = bounds.high;
    clip_.score_clip = bounds.score_clip;
  }

  void begin(const Block& block) {
    Base::begin(block);
    read_numbers(velocity_, block.first, block.count, w_.data());
  }
  void step(const Block& block, int64_t k) {
    const double* numbers = coefficients_.at(k);
    const auto affine = [&](const Chunk& chunk, int64_t at, T* out, const T* along, T a, double b, double c,
                            const Bounds<T>& bounds) {
      kernels_of<T>().step(chunk.count, out + at, along + at, z_.data() + at, this->mask(chunk), a,
                           static_cast<T>(b), static_cast<T>(c), bounds, out + at, nullptr);
    };
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      const float* z = this->draw(chunk, block, k);
      std::copy(z, z + chunk.count, z_.data() + at);
      affine(chunk, at, x(), w_.data(), T(1), numbers[0], numbers[1], clamp_);
    });
    given_.x.round(block.count, x());
    work_.make_score(given_.x, block);
    this->for_each_chunk(block, [&](const Chunk& chunk, int64_t at) {
      affine(chunk, at, w_.data(), work_.score(), static_cast<T>(numbers[2]), numbers[3], numbers[4], clip_);
    });
    given_.x.round(block.count, w_.data());
  }
  void end(const Block& block) {
    Base::end(block);
    write_numbers(velocity_, block.first, block.count, w_.data());
  }

 private:
  const View& velocity_;
  const Coefficients& coefficients_;
  Bounds<T> clamp_ = kNoBounds<T>, clip_ = kNoBounds<T>;  // of x, and of the score
  Line<T> w_;
  Line<float> z_;
};

void underdamped_chain(const args::UnderdampedChain& args) {
  const char* op = "underdamped_chain";
  const Tensor &x = args.x, &table = args.coefficients;
  const int64_t n_steps = args.n_steps;
  const Coefficients coefficients{static_cast<const double*>(table.numel() ? table.data_ptr() : nullptr),
                                  table.size(0) > 1};
  if (table.size(1) != Coefficients::kCount || (table.size(0) != 1 && table.size(0) != n_steps)) {
    fail(op, ": coefficients must have a row of ", Coefficients::kCount, " for all or for each of ", n_steps,
         " steps, got (", table.size(0), ", ", table.size(1), ")");
  }
  const Given given{View(x), View(args.mask), NoiseSource(args.name, args.seeds, args.ids, Shape(x))};
  given.noise.require_steps(n_steps);
  const View velocity(args.velocity);
  const Kept kept(x, args.states, args.thin);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const Bounds<T> bounds = bounds_of<T>(args.low, args.high, args.score_clip);
    on_density<T>(op, x, args.density, {false, false, n_steps}, [&](const Blocks& blocks, auto make) {
      run_chain(blocks, n_steps, kept, [&] {
        using Made = UnderdampedSteps<T, decltype(make())>;
        return std::make_unique<Made>(blocks, make, given, velocity, coefficients, bounds);
      });
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, underdamped_chain); }
