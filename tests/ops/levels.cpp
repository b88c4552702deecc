// Runs the kernels of a SIMD level on numbers made here, and prints a hash of what each has
// written: the lines of two machines differ where their bits do. The one argument names the level.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../../csrc/cpu/simd/kernel_table.h"

extern "C" const char* pyebm_simd(const char* level);

namespace {

using namespace pyebm;

// A multiplicative hash of a result's bytes. All NaNs count as one: no processor promises which of
// them an operation gives.
template <class T>
uint64_t hash_of(const T* numbers, int64_t n) {
  uint64_t hash = 1469598103934665603u;
  for (int64_t i = 0; i < n; ++i) {
    uint64_t bits = 0;
    if (numbers[i] == numbers[i]) memcpy(&bits, numbers + i, sizeof(T));
    hash = (hash ^ bits) * 1099511628211u;
  }
  return hash;
}

template <class T>
void report(const std::string& name, const std::vector<T>& numbers) {
  std::printf("%s %016llx\n", name.c_str(),
              static_cast<unsigned long long>(hash_of(numbers.data(), static_cast<int64_t>(numbers.size()))));
}

// Numbers in (-scale, scale), the same everywhere.
template <class T>
std::vector<T> numbers(int64_t n, uint64_t seed, double scale = 2.0, double least = 0.0) {
  std::vector<T> values(n);
  uint64_t state = seed * 2654435761u + 88172645463325252u;
  for (T& x : values) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    const double u = static_cast<double>(state >> 11) * 0x1p-53;
    x = static_cast<T>(least > 0 ? least + scale * u : scale * (2 * u - 1));
  }
  return values;
}

void noise(const ChunkKernels& kernels) {
  for (const int64_t width : {1, 2, 4, 40, 1024}) {
    for (const bool same_key : {true, false}) {
      static Calls calls;
      const int64_t groups = (width + 3) / 4, rows = 200 / groups ? 200 / groups : 1, n = rows * groups;
      calls.step = 5, calls.stream = 0x80000001u, calls.same_key = same_key || rows == 1;
      calls.same_group = groups == 1, calls.same_sample = rows == 1;
      calls.wanted = width <= 2 ? width : 4;
      for (int64_t i = 0; i < kCalls; ++i) {
        calls.group[i] = static_cast<uint32_t>(i % groups);
        calls.sample[i] = 7u + static_cast<uint32_t>(i / groups);
        calls.key0[i] = 0xDEADBEEFu + static_cast<uint32_t>(same_key ? 0 : i / groups);
        calls.key1[i] = 0x12345678u - static_cast<uint32_t>(same_key ? 0 : i / groups);
      }
      const std::string form = std::to_string(width) + (same_key ? " one key" : " keys");
      for (const bool counting_up : {false, true}) {
        if (counting_up ? !calls.same_sample && !(calls.same_group && calls.same_key) : calls.same_sample)
          continue;
        calls.counting_up = counting_up;
        std::vector<float> out(kChunk);
        kernels.normals(calls, n, out.data());
        out.resize(n * calls.wanted);
        report("normals " + form, out);
        out.resize(kChunk);
        kernels.uniforms(calls, n, out.data());
        out.resize(n * calls.wanted);
        report("uniforms " + form, out);
        std::fill(calls.group + 1, calls.group + kCalls, 0xFFu);  // counting up, it does not read these
        if (calls.same_group) std::fill(calls.sample + 1, calls.sample + kCalls, 0xFFu);
      }
    }
  }
}

void conversions(const ChunkKernels& kernels) {
  std::vector<float> wide(65536), again(65536);
  std::vector<uint16_t> narrow(65536), back(65536);
  for (int64_t i = 0; i < 65536; ++i) narrow[i] = static_cast<uint16_t>(i);
  kernels.from_half(narrow.data(), 65536, wide.data());
  report("from half", wide);
  kernels.from_bfloat16(narrow.data(), 65536, wide.data());
  report("from bfloat16", wide);
  std::vector<float> bits(65536);  // infinities, NaN with all kinds of payload, subnormal numbers
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint32_t pattern = i << 16 | (i % 3 ? i * 40503u % 65536u : 0u);
    std::memcpy(&bits[i], &pattern, sizeof pattern);
  }
  for (const auto& [name, x] :
       {std::pair("", numbers<float>(65536, 3, 1e5)), std::pair(" small", numbers<float>(65536, 3, 1e-6)),
        std::pair(" bits", bits)}) {
    kernels.to_half(x.data(), 65536, back.data());
    report(std::string("to half") + name, back);
    kernels.to_bfloat16(x.data(), 65536, back.data());
    report(std::string("to bfloat16") + name, back);
  }
}

template <class T>
void steps(const ChunkKernels::Of<T>& kernels, const std::string& type) {
  const int64_t n = 1021;
  const auto x = numbers<T>(n, 1), g = numbers<T>(n, 2), a = numbers<T>(n, 4), b = numbers<T>(n, 5),
             c = numbers<T>(n, 6);
  const auto z = numbers<float>(n, 3);
  std::vector<uint8_t> mask(n);
  for (int64_t i = 0; i < n; ++i) mask[i] = i % 3 == 0;
  std::vector<T> out(n), mean(n);
  kernels.perturb(n, x.data(), z.data(), T(0.75), T(0.3), out.data());
  report(type + "perturb", out);
  kernels.perturb_each(n, x.data(), z.data(), a.data(), b.data(), out.data());
  report(type + "perturb_each", out);
  const Bounds<T> bounds{T(-1), T(1.5), T(0.5)};
  kernels.step(n, x.data(), g.data(), z.data(), mask.data(), T(0.9), T(0.1), T(0.4), bounds, out.data(),
               mean.data());
  report(type + "step", out);
  report(type + "step's mean", mean);
  kernels.step_each(n, x.data(), g.data(), z.data(), nullptr, a.data(), b.data(), c.data(), bounds,
                    out.data(), nullptr);
  report(type + "step_each", out);
  const auto pred = numbers<T>(n, 7), own = numbers<T>(n, 8);
  const auto from = numbers<T>(n, 10);
  for (const int64_t width : {1, 2, 3, 4, 5, 37, 1021}) {
    const int64_t rows = n / width;
    const std::string form = " " + std::to_string(width);
    std::vector<T> sums(rows), moved(n);
    kernels.sums(rows, width, x.data(), sums.data());
    report(type + "sums" + form, sums);
    kernels.squares(rows, width, {pred.data(), own.data(), x.data()}, a.data(), T(-1), T(1), sums.data());
    report(type + "squares" + form, sums);
    kernels.moved(rows, width, x.data(), g.data(), a.data(), moved.data());
    report(type + "moved" + form, moved);
    kernels.repeat(rows * width, width, 0, a.data(), moved.data());
    report(type + "repeat" + form, moved);
    static bool chosen[1024];
    for (int64_t row = 0; row < rows; ++row) chosen[row] = a[row] > 0;
    std::vector<T> to = x;
    kernels.choose(rows, width, chosen, from.data(), to.data());
    report(type + "choose" + form, to);
  }
}

template <class T, class Z>
void losses(const ChunkKernels::LossOf<T, Z>& kernels, const std::string& type) {
  const int64_t n = 1000;
  const auto pred = numbers<T>(n, 11), x0 = numbers<T>(n, 12);
  const auto z = numbers<Z>(n, 13);
  const auto kappa = numbers<T>(n, 14), lambda = numbers<T>(n, 15), mu = numbers<T>(n, 16),
             weight = numbers<T>(n, 17), grad = numbers<T>(n, 18);
  const LossRows<T> rows_of{kappa.data(), lambda.data(), mu.data(), weight.data(), grad.data()};
  for (const bool with_x0 : {false, true}) {
    const LossOperands<T, Z> in{pred.data(), z.data(), with_x0 ? x0.data() : nullptr};
    const std::string end = with_x0 ? " x0" : "";
    std::vector<T> out(n);
    for (const int64_t width : {1, 2, 4, 50, 1000}) {
      std::vector<T> sums(n / width);
      kernels.sums(n / width, width, in, rows_of, sums.data(), out.data());
      report(type + "sums " + std::to_string(width) + end, sums);
      report(type + "gradient " + std::to_string(width) + end, out);
      kernels.elementwise(n / width, width, in, rows_of, out.data());
      report(type + "elementwise " + std::to_string(width) + end, out);
    }
    kernels.grad_each(n, in, rows_of, weight.data(), out.data());
    report(type + "grad_each" + end, out);
  }
}

void densities(const ChunkKernels& kernels) {
  const auto alpha = numbers<double>(256, 20), wide = numbers<double>(256, 21, 40.0);
  const auto uniforms = numbers<float>(256, 22, 0.999, 1e-6);
  bool accept[256];
  int16_t open[kCalls];
  std::vector<int64_t> listed;
  const int64_t count = kernels.accept_surely(256, alpha.data(), uniforms.data(), accept, open);
  for (int64_t k = 0; k < count; ++k) listed.push_back(open[k]);
  std::vector<int64_t> accepted(256);
  kernels.add_flags(256, accept, accepted.data());
  report("accept_surely", listed);
  report("add_flags", accepted);
  std::vector<double> out(256);
  kernels.probabilities(256, wide.data(), out.data());
  report("probabilities", out);
  kernels.exponentials(256, wide.data(), out.data());
  report("exponentials", out);
}

// The targets whose bits are promised: all but the dense ones, whose sums keep a bound.
template <class T>
void targets(const TargetTable<T>& table, const std::string& type) {
  for (int64_t target = 0; target < kMixture; ++target) {
    const auto& kernels = table.kernels[target];
    for (const int64_t width : {2, 33}) {
      const int64_t rows = 12, n = rows * width;
      const auto x = numbers<T>(n, 30), params = numbers<T>(2 * width, 31, 1.5, 0.25);
      const int64_t count = target == kGaussian ? 2 * width : 4;
      Samples<T> samples{rows, width, 0, width, params.data(), count, nullptr};
      std::vector<T> scratch(kernels.scratch ? kernels.scratch(samples) : 0);
      samples.scratch = scratch.data();
      if (kernels.prepare) kernels.prepare(samples);
      std::vector<T> score(n), room(n + rows);
      std::vector<double> energy(rows);
      const std::string name = type + "target " + std::to_string(target) + " of " + std::to_string(width);
      kernels.score(samples, x.data(), score.data());
      report(name, score);
      if (!kernels.score_and_energy) continue;
      kernels.score_and_energy(samples, x.data(), score.data(), room.data(), energy.data());
      report(name + ", energy", energy);
    }
  }
}

// An energy of two hidden layers of 24, the second one residual, for each activation.
template <class T>
void networks(const NetworkKernels<T>& kernels, const std::string& type) {
  const int64_t dim = 3, width = 24, samples = 10, count = 3;
  const int64_t outputs[] = {width, width, 1};
  for (int64_t activation = 0; activation < kActivations; ++activation) {
    for (const bool neurons_in_lanes : {false, true}) {
      Network<T> net{};
      net.is_energy = true, net.dim = dim, net.count = count, net.neurons_in_lanes = neurons_in_lanes;
      net.quadratic = T(0.1);
      const auto weights = numbers<T>(1000, 40, 0.4), biases = numbers<T>(100, 41, 0.3);
      static std::vector<T> packed[6];
      int64_t inputs = dim, at = 0, bias = 0;
      for (int64_t l = 0; l < count; ++l) {
        const auto put = [&](int64_t to, int64_t from, int64_t to_stride, int64_t from_stride, int64_t slot) {
          packed[slot].assign(kernels.packed(neurons_in_lanes, to, from) + 64, T(0));
          T* aligned = packed[slot].data();
          while (reinterpret_cast<uintptr_t>(aligned) % 64) ++aligned;
          kernels.pack(neurons_in_lanes, to, from, weights.data() + at, to_stride, from_stride, aligned);
          return aligned;
        };
        Layer<T>& layer = net.layers[l];
        layer.inputs = inputs, layer.outputs = outputs[l], layer.residual = l == 1, layer.skip = false;
        layer.activation = l == count - 1 ? int64_t{kIdentity} : activation;
        layer.parameter = T(0.5), layer.bias = bias, layer.to_x = nullptr;
        layer.forward = put(outputs[l], inputs, inputs, 1, 2 * l);
        layer.to_h = put(inputs, outputs[l], 1, inputs, 2 * l + 1);
        at += inputs * outputs[l], bias += outputs[l], inputs = outputs[l];
      }
      net.biases = biases.data();
      const auto x = numbers<T>(samples * dim, 42), v = numbers<T>(samples * dim, 43);
      std::vector<T> scratch(kernels.scratch(net) + kernels.scratch_of_hvp(net) + 64), out(samples * dim);
      T* aligned = scratch.data();
      while (reinterpret_cast<uintptr_t>(aligned) % 64) ++aligned;
      std::vector<double> energy(samples);
      const std::string name = type + "network " + std::to_string(activation);
      kernels.score(net, {0, samples, 0}, x.data(), aligned, out.data(), energy.data());
      report(name + " score", out);
      report(name + " energy", energy);
      kernels.hvp(net, {0, samples, 0}, x.data(), v.data(), aligned, out.data());
      report(name + " hvp", out);
    }
  }
}

}  // namespace

int main(int, char** argv) {
  if (!pyebm_simd(argv[1])) return std::printf("no level %s here\n", argv[1]), 2;
  const ChunkKernels& kernels = chunk_kernels();
  noise(kernels);
  conversions(kernels);
  steps(kernels.f32, "float32 ");
  steps(kernels.f64, "float64 ");
  losses(kernels.loss_f32, "loss float32 ");
  losses(kernels.loss_f64, "loss float64 ");
  losses(kernels.loss_f64_own, "loss float64, its own noise ");
  densities(kernels);
  targets(kernels.targets_f32, "float32 ");
  targets(kernels.targets_f64, "float64 ");
  networks(kernels.network_f32, "float32 ");
  networks(kernels.network_f64, "float64 ");
}
