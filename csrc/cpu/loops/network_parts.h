// The gradient of a function of a network's energies and scores, summed over a batch: the batch in
// parts, and each part block by block.
#pragma once

#include "network_buffers.h"

namespace pyebm {

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

}  // namespace pyebm
