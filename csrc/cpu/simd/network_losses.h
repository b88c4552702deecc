// The functions of energies and scores whose gradient is taken: their values, and their derivatives
// with respect to a sample's score or energy. Included once by each level, after network_sums.h.

namespace {

using pyebm::NetworkGradient;

constexpr int64_t kRoomsOfGradient =
    7;  // a layer: values, slopes, curves, thirds, squares, seconds, gradients

template <class Lanes, class T>
struct LossPass : NetworkPass<Lanes, T, kRoomsOfGradient> {
  using Base = NetworkPass<Lanes, T, kRoomsOfGradient>;
  using Base::append, Base::beside, Base::curves, Base::lanes, Base::net, Base::room, Base::slopes,
      Base::thirds, Base::values;
  static constexpr int64_t kBesideOfGradient = 12, kOfDirection = 5;

  const NetworkRows& rows;
  const NetworkGradient<T>& task;
  const int64_t dim = net.dim, last = net.count - 1, count = rows.count, directions = task.directions;
  T *const s = beside(0), *const row_room = beside(1);  // row by row

  LossPass(const Network<T>& network, const NetworkRows& some, const NetworkGradient<T>& wanted, T* scratch)
      : Base(network, scratch), rows(some), task(wanted) {}

  static int64_t scratch(const Network<T>& net, int64_t directions) {
    const int64_t rooms =
        1 + kRoomsOfGradient * net.count + kBesideOfGradient + directions * (2 * net.count + kOfDirection);
    return (rooms + 1) * widest<Lanes>(net) * Lanes::kSamples;
  }

  T* squares(int64_t l) const { return room(kRoomsOfGradient * l + 4); }
  T* seconds(int64_t l) const { return l < 0 ? beside(2) : room(kRoomsOfGradient * l + 5); }
  T* gradients(int64_t l) const { return l < 0 ? beside(3) : room(kRoomsOfGradient * l + 6); }
  T* of_direction(int64_t k, int64_t i) const {
    return beside(kBesideOfGradient + k * (2 * net.count + kOfDirection) + i);
  }
  T* tangents(int64_t k, int64_t l) const { return of_direction(k, l + 1); }
  T* changes(int64_t k, int64_t l) const { return of_direction(k, net.count + 1 + l); }  // how slopes change

  // Reads n numbers of each sample, number(sample, i), into the lanes.
  template <class Number>
  void read_rows(int64_t n, Number number, T* to) const {
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t i = 0; i < n; ++i) row_room[r * n + i] = number(r, i);
    }
    lanes.read(count, n, row_room, n, to);
  }

  const T* v(int64_t r, int64_t k) const { return task.v + r * task.of_sample + k * dim; }
  T trace_of(int64_t r) const { return directions ? task.weight[r] * task.trace : T(0); }

  // Reads direction k as sqrt(several |trace|) v. The root leaves out the sign of the trace, which
  // the callers apply.
  void read_direction(int64_t k, T several) const {
    T by[Lanes::kSamples];
    for (int64_t r = 0; r < count; ++r)
      by[r] = static_cast<T>(__builtin_sqrt(several * __builtin_fabs(trace_of(r))));
    read_rows(dim, [&](int64_t r, int64_t i) { return by[r] * v(r, k)[i]; }, tangents(k, -1));
  }

  void sums_of_rows(const T* terms, double* sums) const { energies_of(count, dim, terms, beside(9), sums); }

  // Adds to each sample's loss: factor times the sum of its first `dim` terms.
  void add_to_loss(double factor, const T* terms) const {
    double sums[Lanes::kSamples];
    lanes.write(count, dim, terms, row_room);
    sums_of_rows(row_room, sums);
    for (int64_t r = 0; r < count; ++r) task.loss[r] += factor * sums[r];
  }

  // Replaces s by the derivative with respect to s: the given one, or the loss's.
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

  // Writes the derivative with respect to each energy into s: the given one, or that of the loss a
  // E + square E^2.
  void take_energies() const {
    double squares_of[Lanes::kSamples];
    lanes.write(count, 1, values(last), s);
    for (int64_t i = 0; i < count * dim; ++i) row_room[i] = task.x[i] * task.x[i];
    sums_of_rows(row_room, squares_of);
    for (int64_t r = 0; r < count; ++r) {
      const double energy = s[r] + net.quadratic * squares_of[r];
      const double slope =
          task.square ? task.square * energy : 0.0;  // an infinite energy times 0 would be NaN
      if (task.loss) task.loss[r] = energy * (task.energy_above[r] + slope);
      s[r] = task.energy_above[r] + static_cast<T>(2 * slope);
      if (task.sums) *by_quadratic() += s[r] * static_cast<T>(squares_of[r]);
    }
  }

  T* by_quadratic() const { return task.sums + gradient_size(net) - gradient_stride<T>(1); }
  void add_quadratic() const {  // for functions of the score; s holds their derivative
    if (!task.sums) return;
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
};

}  // namespace
