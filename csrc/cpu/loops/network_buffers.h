// The buffers in which one thread runs a network on a block of samples.
#pragma once

#include "network_pack.h"

namespace pyebm {

// A pass's n intermediate numbers. Where neurons are in the lanes they begin as zeros, so that idle
// lanes hold no numbers that are slow to compute with; where samples are, idle lanes repeat one.
template <class T>
class Scratch : public Line<T> {
 public:
  Scratch(const Network<T>& net, int64_t n) : Line<T>(n) {
    if (net.neurons_in_lanes) std::fill(this->data(), this->data() + n, T(0));
  }
};

// One thread's buffers for the state and the score of a block of samples, with the members that
// BlockBuffers has.
template <class T>
class NetworkBuffers {
 public:
  NetworkBuffers(const PackedNetwork<T>& network, const Blocks& blocks)
      : network_(network),
        x_(blocks[0].count),
        score_(blocks[0].count),
        scratch_(network.net, network.kernels.scratch(network.net)) {}

  T* x() const { return x_.data(); }
  T* score() const { return score_.data(); }

  void read(const View& view, const Block& block) { read_numbers(view, block.first, block.count, x()); }
  void make_score(const View& view, const Block& block, int64_t step = 0, double* energy = nullptr) {
    network_.kernels.score(network_.net, {block.sample, block.rows, step}, x(), scratch_.data(), score(),
                           energy);
    view.round(block.count, score());
  }
  void make_energy(const Block& block, double* energy) {
    network_.kernels.score(network_.net, {block.sample, block.rows, 0}, x(), scratch_.data(), nullptr,
                           energy);
  }
  void make_both(const View& view, const Block& block, T* /* room */, double* energy) {
    make_score(view, block, 0, energy);
  }
  void write(const View& view, int64_t first, const Block& block, const T* values) const {
    write_numbers(view, first, block.count, values);
  }

 private:
  const PackedNetwork<T>& network_;
  Line<T> x_, score_;
  Scratch<T> scratch_;
};

// One thread's buffers for x, for vectors, and for the Hessian's products with the vectors.
template <class T>
class HvpBuffers {
 public:
  HvpBuffers(const PackedNetwork<T>& network, const Blocks& blocks)
      : network_(network),
        x_(blocks[0].count),
        v_(blocks[0].count),
        out_(blocks[0].count),
        scratch_(network.net, network.kernels.scratch_of_hvp(network.net)) {}

  void read(const View& x, const Block& block) {
    rows_ = {block.sample, block.rows, 0};
    read_numbers(x, block.first, block.count, x_.data());
  }
  void read_vector(const View& v, const Block& block) {
    read_numbers(v, block.first, block.count, v_.data());
  }
  void make_laplacian(T* out) {
    network_.kernels.laplacian(network_.net, rows_, x_.data(), scratch_.data(), out);
  }
  void make() {
    network_.kernels.hvp(network_.net, rows_, x_.data(), v_.data(), scratch_.data(), out_.data());
  }
  void write(const View& out, const Block& block) const {
    write_numbers(out, block.first, block.count, out_.data());
  }

 private:
  const PackedNetwork<T>& network_;
  NetworkRows rows_{};
  Line<T> x_, v_, out_;
  Scratch<T> scratch_;
};

}  // namespace pyebm
