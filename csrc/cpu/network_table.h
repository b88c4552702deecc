// The kernels of networks as chunk.h names them. Included once by each level, after network_kernels.h and network_hvp.h.

namespace {

template <class T>
using ManyAtOnce = SampleLanes<T, kManyRegisters ? 1 : 2>;
template <class T>
using FewAtOnce = NeuronLanes<T, kManyRegisters ? 4 : 2>;
template <class T>
using OneAtOnce = NeuronLanes<T, 1>;

template <class T>
struct NetworkTarget {
  static constexpr int64_t kLanes = ManyAtOnce<T>::kSamples;

  // A sample then takes some 4/3 of what it takes among as many as fill the lanes.
  static bool neurons_in_lanes(int64_t at_once) { return 4 * at_once < 3 * kLanes; }
  static int64_t packed(bool neurons_in_lanes, int64_t outputs, int64_t inputs) {
    return neurons_in_lanes ? OneAtOnce<T>::Matrix::size(outputs, inputs) : ManyAtOnce<T>::Matrix::size(outputs, inputs);
  }
  static void pack(bool neurons_in_lanes, int64_t outputs, int64_t inputs, const T* w, int64_t output_stride, int64_t input_stride,
                   T* to) {
    const auto how = neurons_in_lanes ? OneAtOnce<T>::Matrix::pack : ManyAtOnce<T>::Matrix::pack;
    how(outputs, inputs, w, output_stride, input_stride, to);
  }
  template <int64_t kRooms>
  static int64_t scratch(const Network<T>& net) {
    return net.neurons_in_lanes ? NetworkPass<FewAtOnce<T>, T, kRooms>::scratch(net)
                                : NetworkPass<ManyAtOnce<T>, T, kRooms>::scratch(net);
  }
  static void score(const Network<T>& net, NetworkRows rows, const T* x, T* scratch, T* score, double* energy) {
    by_passes(net, rows, [&](auto lanes, const NetworkRows& some, int64_t at) {
      score_at_once<decltype(lanes)>(net, some, x + at * net.dim, scratch, score + at * net.dim, energy ? energy + at : nullptr);
    });
  }
  static void hvp(const Network<T>& net, NetworkRows rows, const T* x, const T* v, T* scratch, T* out) {
    by_passes(net, rows, [&](auto lanes, const NetworkRows& some, int64_t at) {
      hvp_at_once<decltype(lanes)>(net, some, x + at * net.dim, v + at * net.dim, scratch, out + at * net.dim);
    });
  }
  static void laplacian(const Network<T>& net, NetworkRows rows, const T* x, T* scratch, T* out) {
    by_passes(net, rows, [&](auto lanes, const NetworkRows& some, int64_t at) {
      laplacian_at_once<decltype(lanes)>(net, some, x + at * net.dim, scratch, out + at);
    });
  }

  static constexpr NetworkKernels<T> table() {
    return {kLanes, neurons_in_lanes, packed, pack, scratch<2>, score, scratch<kRoomsOfHvp>, hvp, laplacian};
  }

 private:
  // Calls body(lanes, rows, how many rows are before them).
  template <class Body>
  static PYEBM_HD void by_passes(const Network<T>& net, const NetworkRows& rows, Body body) {
    for (int64_t at = 0; at < rows.count;) {
      const int64_t left = rows.count - at;
      const int64_t most = !net.neurons_in_lanes ? kLanes : left > 1 ? FewAtOnce<T>::kSamples : 1, n = left < most ? left : most;
      const NetworkRows some{rows.first + at, n, rows.step};
      if (!net.neurons_in_lanes)
        body(ManyAtOnce<T>(), some, at);
      else if (left > 1)
        body(FewAtOnce<T>(), some, at);
      else
        body(OneAtOnce<T>(), some, at);
      at += n;
    }
  }
};

}  // namespace
