// network_grad: the gradient of a function of a network's energies and scores; network_loss: a loss
// made of energies and scores, with its gradient.
#include <numeric>

#include "../loops/network_parts.h"

namespace pyebm {
namespace {

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

// The loss of the samples' energies and scores (_records/networks.py has the formula).
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

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  PYEBM_IMPL(m, network_grad);
  PYEBM_IMPL(m, network_loss);
}
