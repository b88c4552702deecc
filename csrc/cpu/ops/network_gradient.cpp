// network_grad: the gradient of a function of a network's energies and scores; network_loss: a loss
// made of energies and scores, with its gradient.
#include <numeric>

#include "../loops/network_buffers.h"

namespace pyebm {
namespace {

// The batch in parts, each of which has its own sums. The number of parts grows as the root of the
// number of blocks, up to kMost, and does not depend on the threads. It is a power of two, so that
// two, four or eight threads get equally many parts.
struct Parts {
  static constexpr int64_t kMost = 32;
  int64_t samples, at_once, blocks, count = 1;

  Parts(int64_t samples, int64_t at_once)
      : samples(samples), at_once(at_once), blocks((samples + at_once - 1) / at_once) {
    while (count * count < blocks && count < kMost) count *= 2;
  }
  int64_t begin(int64_t part) const { return blocks * part / count; }
};

template <class T>
class Gradient {
 public:
  Gradient(const char* op, const Tensor& x, const Tensor& layout, const Tensor& params,
           const MaybeTensor& biases, const MaybeTensor& grad, const MaybeTensor& grad_biases,
           const MaybeTensor& grad_x)
      : network_(op, x, layout, params, biases, 1, false, Use::kSums),
        parts_(x.size(0), network_.at_once),
        dim_(network_.net.dim),
        x_(x),
        grad_x_(grad_x) {
    if (grad) {
      if (grad->numel() != params.numel())
        fail(op, ": grad must have ", params.numel(), " numbers, as params, got ", grad->numel());
      grad_ = static_cast<T*>(grad->data_ptr());
    }
    if (grad_biases && !biases) fail(op, ": grad_biases must not be given where there are no biases");
    if (grad_biases) {
      if (grad_biases->size(0) != biases->size(0) || grad_biases->size(1) != network_.outputs()) {
        fail(op, ": grad_biases must have the shape of biases");
      }
      grad_biases_ = static_cast<T*>(grad_biases->numel() ? grad_biases->data_ptr() : nullptr);
    }
    sums_biases_ = biases && (!grad_biases || biases->size(0) == 1);
    if (!grad && grad_biases && sums_biases_)
      fail(op, ": grad must be given where grad_biases is, unless each sample has its own");
  }
  // Without gradients in x and in biases of the call's own. numbers: those of params.
  Gradient(const NetworkShape& shape, const T* numbers, const View& x, int64_t samples, T* grad)
      : network_(shape, numbers, samples, Use::kSums),
        parts_(samples, network_.at_once),
        dim_(shape.dim),
        x_(x),
        grad_x_(),
        grad_(grad) {}

  const Network<T>& net() const { return network_.net; }

  // Calls take(first sample, samples, task, x, room) for each block; take completes the task and
  // may change x. `room` holds as many numbers as the block's x, and two more for each sample.
  template <class Take>
  void run(int64_t directions, Take take) {
    const auto& kernels = network_.kernels;
    const int64_t size = kernels.sums_of_gradient(net()), at_once = network_.at_once;
    const Line<T> sums(grad_ ? size * parts_.count : 0);
    // A thread is worth waking for about 20 us of work.
    const double microseconds =
        parts_.samples * network_.microseconds_of_sweep() * (6 + 5 * directions) / parts_.count;
    const int64_t grain =
        std::clamp<int64_t>(static_cast<int64_t>(20 / std::max(microseconds, 0.1)), 1, parts_.count);
    parallel(parts_.count, grain, [&] {
      return [&, scratch = Scratch<T>(net(), kernels.scratch_of_gradient(net(), directions)),
              x = Line<T>(at_once * dim_), grad_x = Line<T>(grad_x_ ? at_once * dim_ : 0),
              room = Line<T>(at_once * (dim_ + 2))](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) {
          T* const own = sums.data() + part * size;
          if (grad_) std::fill(own, own + size, T(0));
          for (int64_t block = parts_.begin(part); block < parts_.begin(part + 1); ++block) {
            const int64_t sample = block * at_once, rows = std::min(at_once, parts_.samples - sample);
            read_numbers(x_, sample * dim_, rows * dim_, x.data());
            NetworkGradient<T> task{};
            task.x = x.data();
            task.directions = directions;
            task.differentiate = grad_ || grad_biases_ || grad_x_;
            task.sums = grad_ ? own : nullptr;
            task.grad_x = grad_x_ ? grad_x.data() : nullptr;
            task.biases = network_.outputs();
            if (grad_biases_ && !sums_biases_) task.grad_biases = grad_biases_ + sample * task.biases;
            take(sample, rows, task, x.data(), room.data());
            kernels.gradient(net(), {sample, rows, 0}, task, scratch.data());
            if (grad_x_) write_numbers(grad_x_, sample * dim_, rows * dim_, grad_x.data());
          }
        }
      };
    });
    if (grad_) kernels.gather_gradient(net(), parts_.count, sums.data(), grad_);
    if (grad_ && sums_biases_) move_biases();
  }

 private:
  // Where the call gave biases of its own, moves their derivatives from grad_ to grad_biases_. The
  // biases in params were not used, so their derivatives in grad_ become zeros.
  void move_biases() const {
    T *from = grad_, *to = grad_biases_;
    for (int64_t l = 0; l < net().count; ++l) {
      const Layer<T>& layer = net().layers[l];
      from += layer.outputs * (layer.inputs + (layer.skip ? dim_ : 0));
      if (to) to = std::copy(from, from + layer.outputs, to);
      std::fill(from, from + layer.outputs, T(0));
      from += layer.outputs + 1;
    }
  }

  const PackedNetwork<T> network_;
  const Parts parts_;
  const int64_t dim_;
  const View x_, grad_x_;
  T *grad_ = nullptr, *grad_biases_ = nullptr;
  bool sums_biases_ = false;  // the biases' derivatives are summed where those of params lie
};

// Writes the noise of the samples [sample, sample + rows), of `dim` elements each, to z.
template <class T>
void draw(const NoiseSource& noise, int64_t sample, int64_t rows, int64_t dim, T* z) {
  NoiseBuffer buffer;
  const Shape shape(rows, dim, 0);
  for (int64_t index = 0; index < shape.chunks; ++index) {
    Chunk chunk(shape, index);
    chunk.sample += sample;
    const float* normals = noise.fill(chunk, buffer);
    std::copy(normals, normals + chunk.count, z + chunk.first);
  }
}

void network_grad(const args::NetworkGrad& args) {
  const char* op = "network_grad";
  const MaybeTensor &energy_above = args.energy_above, &score_above = args.score_above;
  if (!energy_above && !score_above) fail(op, ": energy_above or score_above must be given");
  const View above(score_above);
  with_compute_type(args.x, [&](auto type) {
    using T = decltype(type);
    Gradient<T> gradient(op, args.x, args.layout, args.params, args.biases, args.grad, args.grad_biases,
                         args.grad_x);
    if (energy_above && !gradient.net().is_energy) fail(op, ": a network that gives scores has no energy");
    const T* a =
        energy_above && energy_above->numel() ? static_cast<const T*>(energy_above->data_ptr()) : nullptr;
    const int64_t dim = gradient.net().dim;
    gradient.run(0, [&](int64_t sample, int64_t rows, NetworkGradient<T>& task, T* /* x */, T* room) {
      if (a) task.energy_above = a + sample;
      if (!above) return;
      read_numbers(above, sample * dim, rows * dim, room);
      task.score_above = room;
    });
  });
}

// What network_loss makes of the samples' energies and scores (_records/networks.py has the formula).
struct Loss {
  bool of_energy, along;
  double trace, square;
  Coefficient weights, kappas;
  View z;
  std::optional<NoiseSource> noise;
  View v;  // one row for all samples, or one for each
  int64_t directions;
  View loss;  // one number, or one for each sample

  template <class T>
  void run(Gradient<T>& gradient, int64_t samples) const {
    const int64_t dim = gradient.net().dim, row = directions * dim;
    const T* const all_v = reinterpret_cast<const T*>(v.memory(0));
    const int64_t of_sample = v.count() > row ? row : 0;
    std::vector<double> losses(samples);
    gradient.run(directions, [&](int64_t sample, int64_t rows, NetworkGradient<T>& task, T* x, T* room) {
      T *weight = room + rows * dim, *kappa = weight + rows;
      for (int64_t r = 0; r < rows; ++r) {
        weight[r] = static_cast<T>(weights[weights.per_sample() ? sample + r : 0]);
        kappa[r] = static_cast<T>(kappas[kappas.per_sample() ? sample + r : 0]);
      }
      task.loss = losses.data() + sample;
      if (of_energy) {
        task.energy_above = weight;
        task.square = square;
        return;
      }
      task.weight = weight;
      task.kappa = kappa;
      task.trace = static_cast<T>(trace);
      task.along = along;
      task.of_sample = of_sample;
      task.v = all_v ? all_v + sample * of_sample : nullptr;
      if (!z && !noise) return;
      task.z = room;
      if (z)
        read_numbers(z, sample * dim, rows * dim, room);
      else
        draw(*noise, sample, rows, dim, room);
      if (!noise) return;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = r * dim; i < (r + 1) * dim; ++i) x[i] += kappa[r] * room[i];
      }
    });
    if (loss.type() == ScalarType::Double)
      put(losses, loss.target<double>(0, nullptr));
    else
      put(losses, loss.target<float>(0, nullptr));
  }

 private:
  template <class Number>
  void put(const std::vector<double>& losses, Number* to) const {
    if (loss.count() == 1)
      *to = static_cast<Number>(std::accumulate(losses.begin(), losses.end(), 0.0));
    else
      std::transform(losses.begin(), losses.end(), to, [](double one) { return static_cast<Number>(one); });
  }
};

void network_loss(const args::NetworkLoss& args) {
  const char* op = "network_loss";
  const int64_t samples = args.x.size(0);
  const Shape shape(args.x);
  const auto noise =
      args.name ? std::optional(NoiseSource(args.name, args.seeds, args.ids, shape)) : std::nullopt;
  with_compute_type(args.x, [&](auto type) {
    using T = decltype(type);
    Gradient<T> gradient(op, args.x, args.layout, args.params, args.biases, args.grad, args.grad_biases,
                         args.grad_x);
    const int64_t dim = gradient.net().dim, directions = args.v ? args.v->size(1) / dim : 0;
    if (args.of_energy && (!gradient.net().is_energy || args.v || args.z || args.name || args.kappa_rows)) {
      fail(op, ": of_energy is for the energy of a network that gives one, without kappa, z, a name and v");
    }
    if (args.v &&
        (args.v->size(1) != directions * dim || (args.v->size(0) != 1 && args.v->size(0) != samples))) {
      fail(op, ": v must have rows of whole directions of ", dim, " elements, one for all or for each of ",
           samples, " samples");
    }
    if (args.along && !args.v) fail(op, ": v must be given where the loss is along it");
    const Loss loss{args.of_energy,
                    args.along,
                    args.trace,
                    args.square,
                    Coefficient(args.weight, args.weight_rows),
                    Coefficient(args.kappa, args.kappa_rows),
                    View(args.z),
                    noise,
                    View(args.v),
                    directions,
                    View(args.loss)};
    loss.run(gradient, samples);
  });
}

// network_loss of what lies in memory as the op computes with it. parts: the tensors that params gets
// one after another; bytes: of each.
void plain_network_loss(const plain::network_loss& plain, const void* const* parts, const int64_t* bytes,
                        int64_t count) {
  const char* op = "network_loss";
  const plain::call& call = plain.call;
  const ScalarType type = call.is_double ? ScalarType::Double : ScalarType::Float;
  const auto at = [](int64_t address) { return reinterpret_cast<void*>(address); };
  with_compute_type(type, [&](auto of_type) {
    using T = decltype(of_type);
    const NetworkShape shape(op, static_cast<const int64_t*>(at(plain.layout)), plain.layout_length,
                             call.samples, call.elements);
    int64_t total = 0;
    for (int64_t k = 0; k < count; total += bytes[k++]) {
      if (!parts[k]) fail(op, ": a parameter has no memory");
    }
    shape.check_params(op, total / sizeof(T));
    T* const params = static_cast<T*>(at(plain.params));
    pack(parts, bytes, count, reinterpret_cast<char*>(params));
    Gradient<T> gradient(shape, params, View(at(plain.x), type, call.samples * call.elements), call.samples,
                         static_cast<T*>(at(plain.grad)));
    const Shape all(call.samples, call.elements, 0);
    const int64_t name[] = {call.seed, call.first_sample, plain.step, call.stream};
    const Loss loss{
        plain.of_energy != 0,
        plain.along != 0,
        plain.trace,
        plain.square,
        plain.weights ? Coefficient(static_cast<const double*>(at(plain.weights)), call.samples, call.samples)
                      : Coefficient(plain.weight),
        Coefficient(plain.kappa),
        View(),
        plain.noisy ? std::optional(NoiseSource(name, all)) : std::nullopt,
        View(at(plain.v), type, plain.v_numbers),
        plain.directions,
        View(at(plain.loss), plain.loss_is_double ? ScalarType::Double : type, plain.losses)};
    loss.run(gradient, call.samples);
  });
}

}  // namespace
}  // namespace pyebm

extern "C" __attribute__((visibility("default"))) bool pyebm_network_loss(
    const pyebm::plain::network_loss* plain, const void* const* parts, const int64_t* bytes,
    int64_t count) try {
  pyebm::plain_network_loss(*plain, parts, bytes, count);
  return true;
} catch (const std::exception&) {
  return false;
}

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  PYEBM_IMPL(m, network_grad);
  PYEBM_IMPL(m, network_loss);
}
