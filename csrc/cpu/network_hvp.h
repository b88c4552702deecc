// The product of an energy's Hessian with a vector: the derivative of the gradient along it, by one more sweep forward and back.
// Included once by each level, after network_kernels.h.

namespace {

constexpr int64_t kRoomsOfHvp = 4;  // a layer: values, slopes, curves (later: how the slopes change), tangents

template <class Lanes, class T>
struct HvpPass : NetworkPass<Lanes, T, kRoomsOfHvp> {
  using Base = NetworkPass<Lanes, T, kRoomsOfHvp>;
  using Base::beside, Base::slopes, Base::curves, Base::net, Base::lanes, Base::append;
  HvpPass(const Network<T>& network, T* scratch) : Base(network, scratch) {}

  T* v() const { return beside(5); }
  T* tangents(int64_t l) const { return l < 0 ? v() : this->room(kRoomsOfHvp * l + 3); }

  // How the values, and the slopes in the place of the curves, change along v.
  void forward_along() const {
    append(v(), 0, v());
    for (int64_t l = 0; l < net.count; ++l) {
      const Layer<T>& layer = net.layers[l];
      T *before = tangents(l - 1), *out = tangents(l);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) { clear(n, out + at); });
      lanes.multiply_add(layer.outputs, layer.inputs + (layer.skip ? net.dim : 0), layer.forward, before, out);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        multiply(n, out + at, curves(l) + at);
        multiply(n, slopes(l) + at, out + at);
        if (layer.residual) add(n, before + at, out + at);
      });
      append(v(), l + 1, out);
    }
  }

  // How the gradient changes along v.
  T* backward_along() const {
    T *gradient = beside(0), *next = beside(1), *change = beside(2), *next_change = beside(3), *to_x = beside(4);
    lanes.each(net.dim, [&](int64_t at, int64_t n) { scale(n, 2 * net.quadratic, v() + at, to_x + at); });
    lanes.each(1, [&](int64_t at, int64_t n) { clear(n, change + at); });
    const T one = 1;
    lanes.fill(1, &one, gradient);
    for (int64_t l = net.count - 1; l >= 0; --l) {
      const Layer<T>& layer = net.layers[l];
      T* to_h = l ? next_change : to_x;
      lanes.each(layer.inputs, [&](int64_t at, int64_t n) {
        clear(n, next + at);
        if (l) clear(n, to_h + at);
        if (!layer.residual) return;
        add(n, gradient + at, next + at);
        add(n, change + at, to_h + at);
      });
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        multiply(n, slopes(l) + at, change + at);
        add_products(n, gradient + at, curves(l) + at, change + at);
        multiply(n, slopes(l) + at, gradient + at);
      });
      if (l) lanes.multiply_add(layer.inputs, layer.outputs, layer.to_h, gradient, next);
      lanes.multiply_add(layer.inputs, layer.outputs, layer.to_h, change, to_h);
      if (layer.skip) lanes.multiply_add(net.dim, layer.outputs, layer.to_x, change, to_x);
      std::swap(gradient, next);
      next_change = change;
      change = to_h;
    }
    return to_x;
  }
};

template <class Lanes, class T>
void hvp_at_once(const Network<T>& net, const NetworkRows& rows, const T* x, const T* v, T* scratch, T* out) {
  const HvpPass<Lanes, T> pass(net, scratch);
  pass.lanes.read(rows.count, net.dim, x, net.dim, pass.x);
  pass.lanes.read(rows.count, net.dim, v, net.dim, pass.v());
  pass.forward(rows, net.count, 2);
  pass.forward_along();
  pass.lanes.write(rows.count, net.dim, pass.backward_along(), out);
}

}  // namespace
