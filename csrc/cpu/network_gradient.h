// The gradient of a function of a network's energies and scores, with respect to its weights, its biases and x. Included once by
// each level, after network_kernels.h.
//
// Along a curve x(t) = x + t v + t^2/2 w an energy's second derivative at t = 0 is v . H v + w . grad E. So three numbers at each
// neuron, the value and its first and second derivative along the curve, carried forward and then back, give the gradients of
// u . s (w = -u, without a v), of the trace of s's slope (several v), and of E itself.

namespace {

using pyebm::NetworkGradient;

constexpr int64_t kRoomsOfGradient = 7;  // a layer: values, slopes, curves, thirds, squares, seconds, gradients

// The sums of a part of the batch: each layer's weights, row by row, and its biases; last q's. All rows are whole vectors.
template <class T>
int64_t gradient_stride(int64_t n) {
  return (n + kWidth<Wide<T>> - 1) / kWidth<Wide<T>> * kWidth<Wide<T>>;
}
template <class T>
int64_t inputs_of(const Network<T>& net, int64_t l) {
  return net.layers[l].inputs + (net.layers[l].skip ? net.dim : 0);
}
template <class T>
int64_t weights_at(const Network<T>& net, int64_t layer) {
  int64_t at = 0;
  for (int64_t l = 0; l < layer; ++l) {
    const int64_t outputs = net.layers[l].outputs;
    at += outputs * gradient_stride<T>(inputs_of(net, l)) + gradient_stride<T>(outputs);
  }
  return at;
}
template <class T>
int64_t biases_at(const Network<T>& net, int64_t l) {
  return weights_at(net, l) + net.layers[l].outputs * gradient_stride<T>(inputs_of(net, l));
}
template <class T>
int64_t gradient_size(const Network<T>& net) {
  return weights_at(net, net.count) + gradient_stride<T>(1);
}

// The parts' sums, added in their order, as params lie. The activations' parameters have no derivative.
template <class T>
void gather_gradient(const Network<T>& net, int64_t parts, const T* sums, T* out) {
  const int64_t size = gradient_size(net);
  const auto add_row = [&](int64_t at, int64_t n) {
    memcpy(out, sums + at, n * sizeof(T));
    for (int64_t p = 1; p < parts; ++p) {
      const T* part = sums + p * size + at;
      PYEBM_VECTOR_LOOP
      for (int64_t i = 0; i < n; ++i) out[i] = out[i] + part[i];
    }
    out += n;
  };
  for (int64_t l = 0; l < net.count; ++l) {
    const int64_t inputs = inputs_of(net, l);
    for (int64_t j = 0; j < net.layers[l].outputs; ++j) add_row(weights_at(net, l) + j * gradient_stride<T>(inputs), inputs);
    add_row(biases_at(net, l), net.layers[l].outputs);
    *out++ = 0;
  }
  add_row(size - gradient_stride<T>(1), 1);
}

// sums (outputs x inputs, their rows a multiple of vectors) += g h^T over samples, one after the other.
template <class T>
void add_outer(int64_t samples, int64_t outputs, int64_t inputs, const T* g, int64_t of_neuron, int64_t of_sample, const T* h,
               int64_t row, T* sums) {
  using V = Wide<T>;
  constexpr int kVectors = kManyRegisters ? 4 : 2;
  const int64_t stride = gradient_stride<T>(inputs);
  by_groups<kVectors>(stride / kWidth<V>, [&](auto vectors, int64_t first) {
    const int64_t input = first * kWidth<V>;
    by_groups<6>(outputs, [&](auto count, int64_t output) {
      ::multiply_add<V, decltype(count)::value, decltype(vectors)::value>(
          samples, h + input, row, g + output * of_neuron, of_sample, of_neuron, sums + output * stride + input, stride);
    });
  });
}

// A derivative on its way back: at the layer's outputs, later its sums; at its inputs; and its part at x.
template <class T>
struct Back {
  T *now, *next, *to_x;
};

template <class Lanes, class T>
struct GradientPass : NetworkPass<Lanes, T, kRoomsOfGradient> {
  using Base = NetworkPass<Lanes, T, kRoomsOfGradient>;
  using Base::append, Base::beside, Base::curves, Base::lanes, Base::net, Base::room, Base::slopes, Base::thirds, Base::values;
  static constexpr int64_t kBesideOfGradient = 12, kOfDirection = 5;

  const NetworkRows& rows;
  const NetworkGradient<T>& task;
  const int64_t dim = net.dim, last = net.count - 1, count = rows.count, directions = task.directions;
  T *const s = beside(0), *const row_room = beside(1);  // row by row

  GradientPass(const Network<T>& network, const NetworkRows& some, const NetworkGradient<T>& wanted, T* scratch)
      : Base(network, scratch), rows(some), task(wanted) {}

  static int64_t scratch(const Network<T>& net, int64_t directions) {
    const int64_t rooms = 1 + kRoomsOfGradient * net.count + kBesideOfGradient + directions * (2 * net.count + kOfDirection);
    return (rooms + 1) * widest<Lanes>(net) * Lanes::kSamples;
  }

  T* squares(int64_t l) const { return room(kRoomsOfGradient * l + 4); }
  T* seconds(int64_t l) const { return l < 0 ? beside(2) : room(kRoomsOfGradient * l + 5); }
  T* gradients(int64_t l) const { return l < 0 ? beside(3) : room(kRoomsOfGradient * l + 6); }
  T* of_direction(int64_t k, int64_t i) const { return beside(kBesideOfGradient + k * (2 * net.count + kOfDirection) + i); }
  T* tangents(int64_t k, int64_t l) const { return of_direction(k, l + 1); }
  T* changes(int64_t k, int64_t l) const { return of_direction(k, net.count + 1 + l); }  // of the slopes

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

  // --- the numbers of a sample ---

  // Calls number(sample, i) for n numbers of each sample, into the lanes.
  template <class Number>
  void read_rows(int64_t n, Number number, T* to) const {
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t i = 0; i < n; ++i) row_room[r * n + i] = number(r, i);
    }
    lanes.read(count, n, row_room, n, to);
  }

  const T* v(int64_t r, int64_t k) const { return task.v + r * task.of_sample + k * dim; }
  T trace_of(int64_t r) const { return directions ? task.weight[r] * task.trace : T(0); }

  // v' = sqrt(several |trace|) v stands for v, and a sign for the trace's.
  void read_direction(int64_t k, T several) const {
    T by[Lanes::kSamples];
    for (int64_t r = 0; r < count; ++r) by[r] = static_cast<T>(__builtin_sqrt(several * __builtin_fabs(trace_of(r))));
    read_rows(dim, [&](int64_t r, int64_t i) { return by[r] * v(r, k)[i]; }, tangents(k, -1));
  }

  void sums_of_rows(const T* terms, double* sums) const { energies_of(count, dim, terms, beside(9), sums); }

  // factor times the sum of a neuron's numbers over its first ones, for each sample, is added to the loss.
  void add_to_loss(double factor, const T* terms) const {
    double sums[Lanes::kSamples];
    lanes.write(count, dim, terms, row_room);
    sums_of_rows(row_room, sums);
    for (int64_t r = 0; r < count; ++r) task.loss[r] += factor * sums[r];
  }

  // The derivative by s in the place of s: the one that was given, or that of the loss.
  void take_above() const {
    if (task.score_above) return (void)memcpy(s, task.score_above, count * dim * sizeof(T));
    if (task.along) return take_loss_along();
    double sums[Lanes::kSamples];
    for (int64_t r = 0; r < count; ++r) {
      T *at = s + r * dim, *square = row_room + r * dim;
      const T kappa = task.kappa[r], over = task.weight[r] * kappa;
      for (int64_t i = 0; i < dim; ++i) {
        const T residual = task.z ? kappa * at[i] + task.z[r * dim + i] : kappa * at[i];
        square[i] = residual * residual;
        at[i] = over * residual;
      }
    }
    sums_of_rows(row_room, sums);
    for (int64_t r = 0; r < count; ++r) task.loss[r] = 0.5 * task.weight[r] * sums[r];
  }
  void take_loss_along() const {
    double sums[Lanes::kSamples];
    T* above = beside(10);
    clear(count * dim, above);
    clear(count, task.loss);
    for (int64_t k = 0; k < directions; ++k) {
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t i = 0; i < dim; ++i) row_room[r * dim + i] = v(r, k)[i] * s[r * dim + i];
      }
      sums_of_rows(row_room, sums);
      for (int64_t r = 0; r < count; ++r) {
        const T over = task.weight[r] * static_cast<T>(sums[r]);
        task.loss[r] += 0.5 * task.weight[r] * (sums[r] * sums[r]);
        for (int64_t i = 0; i < dim; ++i) above[r * dim + i] = above[r * dim + i] + over * v(r, k)[i];
      }
    }
    memcpy(s, above, count * dim * sizeof(T));
  }

  // The derivative by an energy, that was given or of the loss a E + square E^2, into s.
  void take_energies() const {
    double squares_of[Lanes::kSamples];
    lanes.write(count, 1, values(last), s);
    for (int64_t i = 0; i < count * dim; ++i) row_room[i] = task.x[i] * task.x[i];
    sums_of_rows(row_room, squares_of);
    for (int64_t r = 0; r < count; ++r) {
      const double energy = s[r] + net.quadratic * squares_of[r];
      if (task.loss) task.loss[r] = energy * (task.energy_above[r] + task.square * energy);
      s[r] = task.energy_above[r] + static_cast<T>(2 * task.square * energy);
      if (task.sums) *by_quadratic() += s[r] * static_cast<T>(squares_of[r]);
    }
  }

  T* by_quadratic() const { return task.sums + gradient_size(net) - gradient_stride<T>(1); }
  void add_quadratic() const {  // of what depends on s, whose derivative s holds
    T sum = 0;
    for (int64_t r = 0; r < count; ++r) {
      const T *x = task.x + r * dim, *u = s + r * dim, a = task.energy_above ? task.energy_above[r] : T(0);
      for (int64_t i = 0; i < dim; ++i) sum += (a * x[i] - 2 * u[i]) * x[i];
      for (int64_t k = 0; k < directions; ++k) {
        T square = 0;
        for (int64_t i = 0; i < dim; ++i) square += v(r, k)[i] * v(r, k)[i];
        sum -= 2 * trace_of(r) * square;
      }
    }
    *by_quadratic() += sum;
  }

  // --- a layer ---

  void begin(const Back<T>& back, int64_t l) const {
    const Layer<T>& layer = net.layers[l];
    T* to_h = l ? back.next : back.to_x;
    lanes.each(layer.inputs, [&](int64_t at, int64_t n) {
      if (l) clear(n, to_h + at);
      if (layer.residual) add(n, back.now + at, to_h + at);
    });
  }
  void through(Back<T>& back, int64_t l, bool to_x = true) const {
    const Layer<T>& layer = net.layers[l];
    if (l || to_x) lanes.multiply_add(layer.inputs, layer.outputs, layer.to_h, back.now, l ? back.next : back.to_x);
    if (layer.skip && to_x) lanes.multiply_add(dim, layer.outputs, layer.to_x, back.now, back.to_x);
    std::swap(back.now, back.next);
  }

  // What the weights of layer l get from these sums' derivatives and the inputs'.
  void add_to_weights(int64_t l, const T* sums, const T* inputs) const {
    if (!task.sums) return;
    const Layer<T>& layer = net.layers[l];
    const int64_t n = layer.inputs + (layer.skip ? dim : 0);
    int64_t row = 0;
    const T* h = lanes.rows(count, n, inputs, beside(4), row);
    add_outer(count, layer.outputs, n, sums, lanes.of_neuron(), lanes.of_sample(), h, row, task.sums + weights_at(net, l));
  }
  void add_to_biases(int64_t l, const T* sums) const {
    if (!task.sums) return;
    const Layer<T>& layer = net.layers[l];
    int64_t row = 0;
    const T* each = lanes.rows(count, layer.outputs, sums, beside(4), row);
    if (task.grad_biases) {
      for (int64_t r = 0; r < count; ++r)
        memcpy(task.grad_biases + r * task.biases + layer.bias, each + r * row, layer.outputs * sizeof(T));
      return;
    }
    T* total = task.sums + biases_at(net, l);
    for (int64_t r = 0; r < count; ++r, each += row) {
      PYEBM_VECTOR_LOOP
      for (int64_t j = 0; j < layer.outputs; ++j) total[j] = total[j] + each[j];
    }
  }

  void forward_along(int64_t k, bool with_squares) const {
    append(tangents(k, -1), 0, tangents(k, -1));
    for (int64_t l = 0; l < net.count; ++l) {
      const Layer<T>& layer = net.layers[l];
      T *before = tangents(k, l - 1), *out = tangents(k, l), *change = changes(k, l);
      clear_all(layer.outputs, out);
      lanes.multiply_add(layer.outputs, layer.inputs + (layer.skip ? dim : 0), layer.forward, before, out);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        if (with_squares && !k) clear(n, squares(l) + at);
        if (with_squares) add_products(n, out + at, out + at, squares(l) + at);
        for (int64_t i = at; i < at + n; ++i) change[i] = curves(l)[i] * out[i];
        multiply(n, slopes(l) + at, out + at);
        if (layer.residual) add(n, before + at, out + at);
      });
      append(tangents(k, -1), l + 1, out);
    }
  }

  // The second derivatives, and in the place of the thirds or curves those of the slopes.
  T* bends(int64_t l) const { return directions ? thirds(l) : curves(l); }
  void forward_second() const {
    append(seconds(-1), 0, seconds(-1));
    for (int64_t l = 0; l < net.count; ++l) {
      const Layer<T>& layer = net.layers[l];
      T *before = seconds(l - 1), *out = seconds(l);
      clear_all(layer.outputs, out);
      lanes.multiply_add(layer.outputs, layer.inputs + (layer.skip ? dim : 0), layer.forward, before, out);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        if (!directions) {
          multiply(n, out + at, curves(l) + at);
          multiply(n, slopes(l) + at, out + at);
        } else {
          scale(n, T(0.5), squares(l) + at, squares(l) + at);
          multiply(n, squares(l) + at, thirds(l) + at);
          add_products(n, curves(l) + at, out + at, thirds(l) + at);
          multiply(n, slopes(l) + at, out + at);
          add_products(n, curves(l) + at, squares(l) + at, out + at);
        }
        if (layer.residual) add(n, before + at, out + at);
      });
      append(seconds(-1), l + 1, out);
    }
  }

  Back<T> at_layer(int64_t k, int64_t l) const {
    Back<T> along{of_direction(k, 2 * net.count + 1), of_direction(k, 2 * net.count + 2), of_direction(k, 2 * net.count + 3)};
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

  // Of an energy's score: `sign` E goes back in the place of E, so that the curve's second derivative may count either way.
  void of_energys_score() const {
    const auto sign = [&](int64_t r) { return trace_of(r) < 0 ? T(1) : T(-1); };
    const T twice = 2 * net.quadratic;
    this->forward(rows, net.count, directions ? 3 : 2);
    read_rows(1, [&](int64_t r, int64_t) { return sign(r); }, gradients(last));
    read_rows(dim, [&](int64_t r, int64_t i) { return sign(r) * twice * task.x[r * dim + i]; }, gradients(-1));
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
      forward_along(k, task.sums);
      const Back<T> along = at_layer(k, last);
      clear_all(1, along.now);
      read_rows(dim, [&](int64_t r, int64_t i) { return sign(r) * twice * row_room[r * dim + i]; }, along.to_x);
    }
    Back<T> second{beside(6), beside(7), beside(8)};
    if (task.sums) {
      const auto a = [&](int64_t r) { return task.energy_above ? task.energy_above[r] : T(0); };
      read_rows(dim, [&](int64_t r, int64_t i) { return -sign(r) * s[r * dim + i]; }, seconds(-1));
      read_rows(dim, [&](int64_t r, int64_t i) { return twice * (a(r) * task.x[r * dim + i] - s[r * dim + i]); }, second.to_x);
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
    if (task.sums) {
      begin(second, l);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        multiply(n, slopes(l) + at, second.now + at);
        add_products(n, bends(l) + at, gradients(l) + at, second.now + at);
      });
    }
    for (int64_t k = 0; k < directions; ++k) {
      Back<T> along = at_layer(k, l);
      begin(along, l);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        if (task.sums) add_products(n, changes(k, l) + at, along.now + at, second.now + at);
        multiply(n, slopes(l) + at, along.now + at);
        add_products(n, changes(k, l) + at, gradients(l) + at, along.now + at);
      });
      add_to_weights(l, along.now, tangents(k, l - 1));
      through(along, l);
    }
    if (!task.sums) return;
    T* first = beside(5);
    first_sums(l, first);
    add_to_weights(l, second.now, values(l - 1));
    add_to_weights(l, first, seconds(l - 1));
    add_to_biases(l, second.now);
    through(second, l, task.grad_x != nullptr);
  }

  // Of what the network puts out itself: energies, or the scores of a network of scores.
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
      if (task.sums) add_quadratic();
      lanes.read(count, dim, s, dim, first.now);
      read_rows(dim, [&](int64_t r, int64_t i) { return -twice * s[r * dim + i]; }, first.to_x);
    }
    for (int64_t k = 0; k < directions; ++k) {
      read_direction(k, 1);
      forward_along(k, false);
      const Back<T> along = at_layer(k, last);
      read_rows(
          dim, [&](int64_t r, int64_t i) { return trace_of(r) < 0 ? -row_room[r * dim + i] : row_room[r * dim + i]; }, along.now);
      const T *out = tangents(k, last), *of_v = tangents(k, -1);
      lanes.each(dim, [&](int64_t at, int64_t n) {
        for (int64_t i = at; i < at + n; ++i) along.next[i] = along.now[i] * (out[i] - twice * of_v[i]);
      });
      add_to_loss(1, along.next);
    }
    if (!task.sums) return;
    for (int64_t l = last; l >= 0; --l) {
      const Layer<T>& layer = net.layers[l];
      const bool has_slopes = directions || layer.activation != pyebm::kIdentity;
      begin(first, l);
      if (has_slopes) lanes.each(layer.outputs, [&](int64_t at, int64_t n) { multiply(n, slopes(l) + at, first.now + at); });
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
