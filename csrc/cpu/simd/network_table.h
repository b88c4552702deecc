// The kernels of networks as kernel_table.h names them. Included once by each level, after
// network_hvp.h and network_gradient.h.

namespace {

template <class T>
using ManyAtOnce = SampleLanes<T, 2>;
// For a block of no more samples than a vector holds. It takes many registers for the products of
// one vector not to wait for each other; with few, such a block fills half of two vectors.
template <class T>
using HalfAsMany = SampleLanes<T, kManyRegisters ? 1 : 2>;
template <class T>
using FewAtOnce = NeuronLanes<T, kManyRegisters ? 4 : 2>;
template <class T>
using OneAtOnce = NeuronLanes<T, 1>;

template <class T>
struct NetworkTarget {
  static constexpr int64_t kLanes = ManyAtOnce<T>::kSamples, kHalf = HalfAsMany<T>::kSamples;

  // A sample alone, with neurons in the lanes, takes about 4/3 of the time that a sample takes
  // where samples fill the lanes.
  static bool neurons_in_lanes(int64_t at_once) {
    return 4 * at_once < 3 * (at_once <= kHalf ? kHalf : kLanes);
  }
  static int64_t packed(bool neurons_in_lanes, int64_t outputs, int64_t inputs) {
    return neurons_in_lanes ? OneAtOnce<T>::Matrix::size(outputs, inputs)
                            : ManyAtOnce<T>::Matrix::size(outputs, inputs);
  }
  static void pack(bool neurons_in_lanes, int64_t outputs, int64_t inputs, const T* w, int64_t output_stride,
                   int64_t input_stride, T* to) {
    const auto how = neurons_in_lanes ? OneAtOnce<T>::Matrix::pack : ManyAtOnce<T>::Matrix::pack;
    how(outputs, inputs, w, output_stride, input_stride, to);
  }
  template <int64_t kRooms>
  static int64_t scratch(const Network<T>& net) {
    return net.neurons_in_lanes ? NetworkPass<FewAtOnce<T>, T, kRooms>::scratch(net)
                                : NetworkPass<ManyAtOnce<T>, T, kRooms>::scratch(net);
  }
  static void score(const Network<T>& net, NetworkRows rows, const T* x, T* scratch, T* score,
                    double* energy) {
    by_passes(net, rows, [&](auto lanes, const NetworkRows& some, int64_t at) {
      score_at_once<decltype(lanes)>(net, some, x + at * net.dim, scratch,
                                     score ? score + at * net.dim : nullptr, energy ? energy + at : nullptr);
    });
  }
  static void hvp(const Network<T>& net, NetworkRows rows, const T* x, const T* v, T* scratch, T* out) {
    by_passes(net, rows, [&](auto lanes, const NetworkRows& some, int64_t at) {
      hvp_at_once<decltype(lanes)>(net, some, x + at * net.dim, v + at * net.dim, scratch,
                                   out + at * net.dim);
    });
  }
  static int64_t scratch_of_gradient(const Network<T>& net, int64_t directions) {
    return net.neurons_in_lanes ? GradientPass<FewAtOnce<T>, T>::scratch(net, directions)
                                : GradientPass<ManyAtOnce<T>, T>::scratch(net, directions);
  }
  static void gradient(const Network<T>& net, NetworkRows rows, const NetworkGradient<T>& task, T* scratch) {
    by_passes(net, rows, [&](auto lanes, const NetworkRows& some, int64_t at) {
      const auto later = [&](auto* rows_of, int64_t each) { return rows_of ? rows_of + at * each : rows_of; };
      NetworkGradient<T> part = task;
      part.x = later(task.x, net.dim);
      part.energy_above = later(task.energy_above, 1);
      part.score_above = later(task.score_above, net.dim);
      part.kappa = later(task.kappa, 1);
      part.weight = later(task.weight, 1);
      part.z = later(task.z, net.dim);
      part.v = later(task.v, task.of_sample);
      part.loss = later(task.loss, 1);
      part.grad_x = later(task.grad_x, net.dim);
      part.grad_biases = later(task.grad_biases, task.biases);
      GradientPass<decltype(lanes), T>(net, some, part, scratch).run();
    });
  }
  static void laplacian(const Network<T>& net, NetworkRows rows, const T* x, T* scratch, T* out) {
    by_passes(net, rows, [&](auto lanes, const NetworkRows& some, int64_t at) {
      laplacian_at_once<decltype(lanes)>(net, some, x + at * net.dim, scratch, out + at);
    });
  }

  static constexpr NetworkKernels<T> table() {
    return {kLanes,
            neurons_in_lanes,
            packed,
            pack,
            scratch<2>,
            score,
            scratch<kRoomsOfHvp>,
            hvp,
            scratch_of_gradient,
            gradient_size<T>,
            gradient,
            gather_gradient<T>,
            laplacian};
  }

 private:
  // Calls body(lanes, rows, how many rows come before them) for one pass after another.
  template <class Body>
  static PYEBM_HD void by_passes(const Network<T>& net, const NetworkRows& rows, Body body) {
    for (int64_t at = 0; at < rows.count;) {
      const int64_t left = rows.count - at;
      const int64_t most = !net.neurons_in_lanes ? kLanes
                           : left > 1            ? FewAtOnce<T>::kSamples
                                                 : 1,
                    n = left < most ? left : most;
      const NetworkRows some{rows.first + at, n, rows.step};
      if (!net.neurons_in_lanes && n > kHalf)
        body(ManyAtOnce<T>(), some, at);
      else if (!net.neurons_in_lanes)
        body(HalfAsMany<T>(), some, at);
      else if (left > 1)
        body(FewAtOnce<T>(), some, at);
      else
        body(OneAtOnce<T>(), some, at);
      at += n;
    }
  }
};

}  // namespace
