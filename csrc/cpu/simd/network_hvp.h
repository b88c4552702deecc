// The product of an energy's Hessian with a vector: the derivative of the gradient along it, by one
// more sweep forward and back. Included once by each level, after network_kernels.h.

namespace {

constexpr int64_t kRoomsOfHvp =
    6;  // a layer: values, slopes, curves, tangents, gradients, and how the slopes change

template <class Lanes, class T>
struct HvpPass : NetworkPass<Lanes, T, kRoomsOfHvp> {
  using Base = NetworkPass<Lanes, T, kRoomsOfHvp>;
  using Base::beside, Base::slopes, Base::curves, Base::net, Base::lanes, Base::append;
  HvpPass(const Network<T>& network, T* scratch) : Base(network, scratch) {}

  T* v() const { return beside(5); }
  T* tangents(int64_t l) const { return l < 0 ? v() : this->room(kRoomsOfHvp * l + 3); }
  T* gradients(int64_t l) const { return this->room(kRoomsOfHvp * l + 4); }  // by layer l's outputs
  T* bends(int64_t l) const { return this->room(kRoomsOfHvp * l + 5); }

  // Goes forward and makes the gradients of all layers, which the products with all vectors share.
  void prepare(const NetworkRows& rows) const {
    this->forward(rows, net.count, 2);
    T* pulled = beside(0);
    const T one = 1;
    lanes.fill(1, &one, gradients(net.count - 1));
    for (int64_t l = net.count - 1; l > 0; --l) {
      const Layer<T>& layer = net.layers[l];
      const T* gradient = gradients(l);
      T* next = gradients(l - 1);
      this->begin(l, gradient, next);
      lanes.each(layer.outputs,
                 [&](int64_t at, int64_t n) { product(n, slopes(l) + at, gradient + at, pulled + at); });
      lanes.multiply_add(layer.inputs, layer.outputs, layer.to_h, pulled, next, this->product_is_first(l));
    }
  }

  // The Hessian times v.
  T* times() const {
    forward_along();
    return backward_along();
  }

 private:
  // Computes how the values and the slopes change along v.
  void forward_along() const {
    append(v(), 0, v());
    for (int64_t l = 0; l < net.count; ++l) {
      const Layer<T>& layer = net.layers[l];
      T *before = tangents(l - 1), *out = tangents(l);
      lanes.multiply_add(layer.outputs, layer.inputs + (layer.skip ? net.dim : 0), layer.forward, before, out,
                         kFresh);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        product(n, out + at, curves(l) + at, bends(l) + at);
        multiply(n, slopes(l) + at, out + at);
        if (layer.residual) add(n, before + at, out + at);
      });
      append(v(), l + 1, out);
    }
  }

  // Computes how the gradient changes along v.
  T* backward_along() const {
    T *change = beside(2), *next_change = beside(3), *to_x = beside(4);
    lanes.each(net.dim, [&](int64_t at, int64_t n) { scale(n, 2 * net.quadratic, v() + at, to_x + at); });
    lanes.each(1, [&](int64_t at, int64_t n) { clear(n, change + at); });
    for (int64_t l = net.count - 1; l >= 0; --l) {
      const Layer<T>& layer = net.layers[l];
      T* to_h = l ? next_change : to_x;
      this->begin(l, change, to_h);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        multiply(n, slopes(l) + at, change + at);
        add_products(n, gradients(l) + at, bends(l) + at, change + at);
      });
      lanes.multiply_add(layer.inputs, layer.outputs, layer.to_h, change, to_h, this->product_is_first(l));
      if (layer.skip) lanes.multiply_add(net.dim, layer.outputs, layer.to_x, change, to_x);
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
  pass.prepare(rows);
  pass.lanes.write(rows.count, net.dim, pass.times(), out);
}

// The Hessian's trace: the product with each unit vector gives one element of the diagonal, and
// these are added first to last.
template <class Lanes, class T>
void laplacian_at_once(const Network<T>& net, const NetworkRows& rows, const T* x, T* scratch, T* out) {
  const HvpPass<Lanes, T> pass(net, scratch);
  pass.lanes.read(rows.count, net.dim, x, net.dim, pass.x);
  pass.prepare(rows);
  T *unit = pass.beside(1), *one = pass.beside(0);
  clear(net.dim, unit);
  for (int64_t i = 0; i < rows.count; ++i) out[i] = 0;
  for (int64_t d = 0; d < net.dim; ++d) {
    unit[d] = 1;
    pass.lanes.fill(net.dim, unit, pass.v());
    unit[d] = 0;
    pass.lanes.write(rows.count, 1, Lanes::at(pass.times(), d), one);
    for (int64_t i = 0; i < rows.count; ++i) out[i] = out[i] + one[i];
  }
}

}  // namespace
