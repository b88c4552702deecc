// The gradient of a function of a network's energies and scores, with respect to its weights, its
// biases and x. Included once by each level, after network_losses.h.
//
// Along a curve x(t) = x + t v + t^2/2 w an energy's second derivative at t = 0 is v . H v + w .
// grad E. So three numbers at each neuron, the value and its first and second derivative along the
// curve, carried forward and then back, give the gradients of u . s (w = -u, without a v), of the
// trace of s's slope (several v), and of E itself.

namespace {

// A derivative on its way back through a layer: `now` is at the layer's outputs and later at their
// sums before the activation, `next` at the layer's inputs, and to_x collects the part at x.
template <class T>
struct Back {
  T *now, *next, *to_x;
};

template <class Lanes, class T>
struct GradientPass : LossPass<Lanes, T> {
  using Base = LossPass<Lanes, T>;
  using Base::add_quadratic, Base::add_to_loss, Base::read_direction, Base::read_rows, Base::take_above,
      Base::take_energies;
  using Base::append, Base::beside, Base::curves, Base::lanes, Base::net, Base::slopes, Base::thirds,
      Base::values;
  using Base::Base;
  using V = Wide<T>;
  using Base::changes, Base::gradients, Base::of_direction, Base::seconds, Base::squares, Base::tangents,
      Base::trace_of;
  using Base::count, Base::dim, Base::directions, Base::last, Base::row_room, Base::rows, Base::s, Base::task;

  void run() const {
    lanes.read(count, dim, task.x, dim, this->x);
    if (net.is_energy && (task.kappa || task.score_above))
      of_energys_score();
    else
      of_outputs();
  }

 private:
  void clear_all(int64_t neurons, T* to) const {
    lanes.each(neurons, [&](int64_t at, int64_t n) { clear(n, to + at); });
  }

  // --- a layer ---

  void begin(const Back<T>& back, int64_t l) const { Base::begin(l, back.now, l ? back.next : back.to_x); }
  void through(Back<T>& back, int64_t l, bool to_x = true) const {
    const Layer<T>& layer = net.layers[l];
    if (l || to_x)
      lanes.multiply_add(layer.inputs, layer.outputs, layer.to_h, back.now, l ? back.next : back.to_x,
                         this->product_is_first(l));
    if (layer.skip && to_x) lanes.multiply_add(dim, layer.outputs, layer.to_x, back.now, back.to_x);
    std::swap(back.now, back.next);
  }

  // Adds to the gradient of layer l's weights: the derivatives `sums` times the layer's `inputs`,
  // for each sample.
  void add_to_weights(int64_t l, const T* sums, const T* inputs) const {
    if (!task.sums) return;
    const Layer<T>& layer = net.layers[l];
    const int64_t n = layer.inputs + (layer.skip ? dim : 0);
    int64_t row = 0;
    const T* h = lanes.rows(count, n, inputs, beside(4), row);
    add_outer(count, layer.outputs, n, sums, lanes.of_neuron(), lanes.of_sample(), h, row,
              task.sums + weights_at(net, l));
  }
  void add_to_biases(int64_t l, const T* sums) const {
    if (!task.sums && !task.grad_biases) return;
    const Layer<T>& layer = net.layers[l];
    int64_t row = 0;
    const T* each = lanes.rows(count, layer.outputs, sums, beside(4), row);
    if (task.grad_biases) {
      for (int64_t r = 0; r < count; ++r)
        memcpy(task.grad_biases + r * task.biases + layer.bias, each + r * row, layer.outputs * sizeof(T));
      return;
    }
    T* total = task.sums + biases_at(net, l);
    for (int64_t r = 0; r < count; ++r, each += row) add(layer.outputs, each, total);
  }

  void forward_along(int64_t k, bool with_squares) const {
    append(tangents(k, -1), 0, tangents(k, -1));
    for (int64_t l = 0; l < net.count; ++l) {
      const Layer<T>& layer = net.layers[l];
      T *before = tangents(k, l - 1), *out = tangents(k, l), *change = changes(k, l);
      lanes.multiply_add(layer.outputs, layer.inputs + (layer.skip ? dim : 0), layer.forward, before, out,
                         kFresh);
      T* square = with_squares ? squares(l) : nullptr;
      const T *slope = slopes(l), *curve = curves(l);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        by_vectors<T>(n, [&](int64_t i) {
          const V sum = load<V>(out + at + i);
          if (square) store(square + at + i, fma(sum, sum, k ? load<V>(square + at + i) : V{}));
          store(change + at + i, load<V>(curve + at + i) * sum);
          store(out + at + i, sum * load<V>(slope + at + i));
        });
        if (layer.residual) add(n, before + at, out + at);
      });
      append(tangents(k, -1), l + 1, out);
    }
  }

  // Carries the second derivatives forward. The slopes' second derivatives replace the thirds or,
  // where there are no directions, the curves.
  T* bends(int64_t l) const { return directions ? thirds(l) : curves(l); }
  void forward_second() const {
    append(seconds(-1), 0, seconds(-1));
    for (int64_t l = 0; l < net.count; ++l) {
      const Layer<T>& layer = net.layers[l];
      T *before = seconds(l - 1), *out = seconds(l);
      lanes.multiply_add(layer.outputs, layer.inputs + (layer.skip ? dim : 0), layer.forward, before, out,
                         kFresh);
      T* bend = bends(l);
      const T *slope = slopes(l), *curve = curves(l), *square = directions ? squares(l) : nullptr;
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        by_vectors<T>(n, [&](int64_t i) {
          const V sum = load<V>(out + at + i), curved = load<V>(curve + at + i);
          const V half = square ? T(0.5) * load<V>(square + at + i) : V{};
          const V first = sum * load<V>(slope + at + i);
          store(bend + at + i, square ? fma(curved, sum, load<V>(bend + at + i) * half) : curved * sum);
          store(out + at + i, square ? fma(curved, half, first) : first);
        });
        if (layer.residual) add(n, before + at, out + at);
      });
      append(seconds(-1), l + 1, out);
    }
  }

  Back<T> at_layer(int64_t k, int64_t l) const {
    Back<T> along{of_direction(k, 2 * net.count + 1), of_direction(k, 2 * net.count + 2),
                  of_direction(k, 2 * net.count + 3)};
    if ((last - l) % 2) std::swap(along.now, along.next);
    return along;
  }
  void first_sums(int64_t l, T* to) const {
    lanes.each(net.layers[l].outputs, [&](int64_t at, int64_t n) {
      const T *gradient = gradients(l), *slope = slopes(l);
      PYEBM_VECTOR_LOOP
      for (int64_t i = at; i < at + n; ++i) to[i] = gradient[i] * slope[i];
    });
  }

  // --- the two ways ---

  // Handles functions of an energy's score. It carries `sign` E back in the place of E, since the
  // curve's second derivative may count with either sign.
  void of_energys_score() const {
    const auto sign = [&](int64_t r) { return trace_of(r) < 0 ? T(1) : T(-1); };
    const T twice = 2 * net.quadratic;
    this->forward(rows, net.count, directions ? 3 : 2);
    read_rows(1, [&](int64_t r, int64_t) { return sign(r); }, gradients(last));
    read_rows(
        dim, [&](int64_t r, int64_t i) { return sign(r) * twice * task.x[r * dim + i]; }, gradients(-1));
    for (int64_t l = last; l >= 0; --l) {
      Back<T> sums{beside(4), gradients(l - 1), gradients(-1)};
      begin({gradients(l), sums.next, sums.to_x}, l);
      first_sums(l, sums.now);
      through(sums, l);
    }
    lanes.write(count, dim, gradients(-1), s);
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t i = 0; i < dim; ++i) s[r * dim + i] = -sign(r) * s[r * dim + i];
    }
    take_above();
    for (int64_t k = 0; k < directions; ++k) {
      read_direction(k, 2);
      forward_along(k, task.differentiate);
      const Back<T> along = at_layer(k, last);
      clear_all(1, along.now);
      read_rows(
          dim, [&](int64_t r, int64_t i) { return sign(r) * twice * row_room[r * dim + i]; }, along.to_x);
    }
    Back<T> second{beside(6), beside(7), beside(8)};
    if (task.differentiate) {
      const auto a = [&](int64_t r) { return task.energy_above ? task.energy_above[r] : T(0); };
      read_rows(dim, [&](int64_t r, int64_t i) { return -sign(r) * s[r * dim + i]; }, seconds(-1));
      read_rows(
          dim, [&](int64_t r, int64_t i) { return twice * (a(r) * task.x[r * dim + i] - s[r * dim + i]); },
          second.to_x);
      read_rows(1, [&](int64_t r, int64_t) { return a(r); }, second.now);
      add_quadratic();
      forward_second();
    }
    for (int64_t l = last; l >= 0; --l) backward_layer(l, second);
    for (int64_t k = 0; k < directions; ++k) {
      T* products = beside(4);
      const T *v_of = tangents(k, -1), *hessian_times = at_layer(k, last).to_x;
      lanes.each(dim, [&](int64_t at, int64_t n) {
        for (int64_t i = at; i < at + n; ++i) products[i] = v_of[i] * hessian_times[i];
      });
      add_to_loss(0.5, products);
    }
    if (task.grad_x) lanes.write(count, dim, second.to_x, task.grad_x);
  }

  void backward_layer(int64_t l, Back<T>& second) const {
    const Layer<T>& layer = net.layers[l];
    const T *slope = slopes(l), *gradient = gradients(l), *bend = bends(l);
    T* first = beside(5);
    if (task.differentiate) {
      begin(second, l);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        by_vectors<T>(n, [&](int64_t i) {
          const V slopes = load<V>(slope + at + i), from = load<V>(gradient + at + i);
          store(first + at + i, from * slopes);
          store(second.now + at + i,
                fma(load<V>(bend + at + i), from, load<V>(second.now + at + i) * slopes));
        });
      });
    }
    for (int64_t k = 0; k < directions; ++k) {
      Back<T> along = at_layer(k, l);
      begin(along, l);
      const T* change = changes(k, l);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        by_vectors<T>(n, [&](int64_t i) {
          const V changes = load<V>(change + at + i), now = load<V>(along.now + at + i);
          if (task.differentiate) store(second.now + at + i, fma(changes, now, load<V>(second.now + at + i)));
          store(along.now + at + i, fma(changes, load<V>(gradient + at + i), now * load<V>(slope + at + i)));
        });
      });
      add_to_weights(l, along.now, tangents(k, l - 1));
      through(along, l);
    }
    if (!task.differentiate) return;
    add_to_weights(l, second.now, values(l - 1));
    add_to_weights(l, first, seconds(l - 1));
    add_to_biases(l, second.now);
    through(second, l, task.grad_x != nullptr);
  }

  // Handles functions of the network's own outputs: energies, or the scores of a network that gives
  // scores.
  void of_outputs() const {
    const T twice = 2 * net.quadratic;
    Back<T> first{beside(6), beside(7), beside(8)};
    this->forward(rows, net.count, directions ? 2 : 1);
    if (net.is_energy) {
      take_energies();
      lanes.read(count, 1, s, 1, first.now);
      read_rows(dim, [&](int64_t r, int64_t i) { return twice * s[r] * task.x[r * dim + i]; }, first.to_x);
    } else {
      lanes.write(count, dim, values(last), s);
      for (int64_t i = 0; i < count * dim; ++i) s[i] = s[i] - twice * task.x[i];
      take_above();
      if (task.differentiate) add_quadratic();
      lanes.read(count, dim, s, dim, first.now);
      read_rows(dim, [&](int64_t r, int64_t i) { return -twice * s[r * dim + i]; }, first.to_x);
    }
    for (int64_t k = 0; k < directions; ++k) {
      read_direction(k, 1);
      forward_along(k, false);
      const Back<T> along = at_layer(k, last);
      read_rows(
          dim,
          [&](int64_t r, int64_t i) {
            return trace_of(r) < 0 ? -row_room[r * dim + i] : row_room[r * dim + i];
          },
          along.now);
      const T *out = tangents(k, last), *of_v = tangents(k, -1);
      lanes.each(dim, [&](int64_t at, int64_t n) {
        for (int64_t i = at; i < at + n; ++i) along.next[i] = along.now[i] * (out[i] - twice * of_v[i]);
      });
      add_to_loss(1, along.next);
    }
    if (!task.differentiate) return;
    for (int64_t l = last; l >= 0; --l) {
      const Layer<T>& layer = net.layers[l];
      const bool has_slopes = directions || layer.activation != pyebm::kIdentity;
      begin(first, l);
      if (has_slopes)
        lanes.each(layer.outputs,
                   [&](int64_t at, int64_t n) { multiply(n, slopes(l) + at, first.now + at); });
      for (int64_t k = 0; k < directions; ++k) {
        Back<T> along = at_layer(k, l);
        begin(along, l);
        lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
          add_products(n, changes(k, l) + at, along.now + at, first.now + at);
          multiply(n, slopes(l) + at, along.now + at);
        });
        add_to_weights(l, along.now, tangents(k, l - 1));
        through(along, l, false);
      }
      add_to_weights(l, first.now, values(l - 1));
      add_to_biases(l, first.now);
      through(first, l, task.grad_x != nullptr);
    }
    if (task.grad_x) lanes.write(count, dim, first.to_x, task.grad_x);
  }
};

}  // namespace
