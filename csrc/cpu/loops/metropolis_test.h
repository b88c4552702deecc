// Metropolis' test of a block of chains in the op metropolis_chain: the decisions, and what follows
// from them for the chains' energies, counts, step sizes and reports.
#pragma once

#include <vector>

#include "chain.h"
#include "metropolis.h"

namespace pyebm {

// The step sizes and temperatures, and the numbers of the test that follow from them. With jitter
// each step draws its size between size (1 - jitter) and size (1 + jitter).
struct Steps {
  ChainCoefficient size, temperature;
  double jitter;
  bool is_mala, sizes_by_sample;

  bool per_sample() const { return sizes_by_sample || jitter > 0; }
  double jittered(double size, const float* uniforms, int64_t row) const {
    return uniforms ? (1.0 + jitter * (2.0 * static_cast<double>(uniforms[row]) - 1.0)) * size : size;
  }
  // The step size in the squares that the test compares; and the number that divides their
  // difference.
  double tested(double step) const { return is_mala ? step : 0.5 * step; }
  double divisor(double step, double t) const { return is_mala ? 4.0 * t * step : 2.0 * t; }
};

// The dual averaging of each chain's own step size, in the chain's first steps.
struct Averaging {
  AveragedRows rows{};
  int64_t done = 0, warmup = 0;
  double target = 0;

  explicit operator bool() const { return rows.sizes != nullptr; }
  bool learns(int64_t k) const { return done + k < warmup; }
};

// The caller's tensors that hold one number for each chain; and the reports, which hold four for
// each kept state.
struct ChainTensors {
  double* energy;
  int64_t* accepted;
  bool* accept;
  double *log_alpha, *reports;
  int64_t thin, samples;
};

// One thread's test of the chains of a block.
template <class T>
class Decisions {
 public:
  Decisions(const ChainTensors& tensors, const Averaging& averaging, double constant, int64_t rows)
      : tensors_(tensors), averaging_(averaging), constant_(constant), proposed_(rows), divisors_(rows) {}

  double* proposed() { return proposed_.data(); }  // the proposals' energies
  double* divisors() { return divisors_.data(); }  // the divisors of the sums' differences
  const bool* accept(const Chunk& chunk) const { return tensors_.accept + chunk.sample; }

  // Decides for the chains of a chunk, which begin with the block's chain `first`, from the sums of
  // squares of the two ends; takes the energies of the accepted proposals.
  void make(const Chunk& chunk, int64_t first, double temperature, const T* before, const T* after,
            const float* uniforms) {
    double *energy = tensors_.energy + chunk.sample, *log_alpha = tensors_.log_alpha + chunk.sample,
           *proposed = &proposed_[first];
    bool* accept = tensors_.accept + chunk.sample;
    kernels_of<T>().log_acceptances(
        chunk.rows, {energy, proposed, constant_, temperature, before, after, &divisors_[first]}, log_alpha);
    decide(chunk.rows, log_alpha, uniforms, accept);
    chunk_kernels().add_flags(chunk.rows, accept, tensors_.accepted + chunk.sample);
    kernels_of<double>().choose(chunk.rows, 1, accept, proposed, energy);
  }

  // Learns the next step sizes from the decisions of step k, if it is one of the warm-up.
  void learn(const Chunk& chunk, int64_t k) const {
    if (!averaging_.learns(k)) return;
    double acceptance[kCalls];
    chunk_kernels().probabilities(chunk.rows, tensors_.log_alpha + chunk.sample, acceptance);
    const double m = static_cast<double>(averaging_.done + k + 1);
    pyebm::learn(
        chunk.rows, m, static_cast<double>(averaging_.warmup), averaging_.target,
        [&](int64_t i) { return acceptance[i]; }, averaging_.rows.from(chunk.sample));
  }

  // Reports the chains after step k, if it is one whose state is kept; returns the place for their
  // step sizes, or null.
  double* report(const Chunk& chunk, int64_t k) const {
    if (!tensors_.reports || (k + 1) % tensors_.thin) return nullptr;
    const int64_t samples = tensors_.samples;
    double* report = tensors_.reports + ((k + 1) / tensors_.thin - 1) * 4 * samples + chunk.sample;
    for (int64_t row = 0, sample = chunk.sample; row < chunk.rows; ++row, ++sample) {
      report[row] = tensors_.energy[sample];
      report[row + samples] = tensors_.log_alpha[sample];
      report[row + 2 * samples] = tensors_.accept[sample] ? 1.0 : 0.0;
    }
    return report + 3 * samples;
  }

 private:
  const ChainTensors& tensors_;
  const Averaging& averaging_;
  const double constant_;
  std::vector<double> proposed_, divisors_;
};

}  // namespace pyebm
