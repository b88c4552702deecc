// The kernels that run on one chunk of samples in the L1 cache, compiled once per SIMD level.
// Everything around them is plain C++.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "../../common/langevin.h"
#include "../../common/losses.h"
#include "../../common/metropolis.h"
#include "../../common/targets.h"
#include "network.h"

// Marks that the next loop may be vectorised: no element depends on another.
#if defined(__clang__)
#define PYEBM_VECTOR_LOOP _Pragma("clang loop vectorize(assume_safety)")
#else
#define PYEBM_VECTOR_LOOP _Pragma("GCC ivdep")
#endif

namespace pyebm {

constexpr int64_t kChunk = 1024;  // normals of a chunk; 4 KB of float32 per operand
constexpr int64_t kCalls = kChunk / 4;
constexpr int64_t kLeastCalls = 16;  // a kernel draws for a multiple of as many, which fills its vectors
constexpr int64_t kCacheLine = 64;   // bytes
constexpr int64_t kLanes =
    16;  // partial sums of a loss, the same at every SIMD level, so that the sum is too

constexpr int64_t kLossesOfBlock = 64;

// Memory that an op reads or writes: the second half of a chunk and the first half of the next. It
// comes into the cache while the chunk's numbers are made, a few lines with each block of calls,
// since the processor can wait for only so many lines at once.
struct Soon {
  const char* begin;
  int64_t bytes_a_call;
  bool written;
};

// The Philox calls of a chunk: counter words 0 and 1 of each call (the calls share the others), and
// each call's key. Where the calls share a word, the array's first entry stands for all. Where the
// words of the group, or of the sample if all have one group, count up, it stands for all too.
struct Calls {
  alignas(64) uint32_t group[kCalls];
  alignas(64) uint32_t sample[kCalls];
  alignas(64) uint32_t key0[kCalls];
  alignas(64) uint32_t key1[kCalls];
  uint32_t step, stream;
  bool same_group, same_sample, same_key, counting_up;
  int64_t wanted;  // numbers taken from each call: 4, or the first 1 or 2 for narrow samples (same_group)
  int64_t soon_count = 0;
  Soon soon[4];  // a step has the most: x, the score, the result and the mean
};

// Elementwise operands of a loss; an operand that the loss does not have is null. Z is float for
// generated noise, T for the caller's own noise.
template <class T, class Z>
struct LossOperands {
  const T* pred;
  const Z* z;
  const T* x0;
};

// Proposals of Metropolis' test: the energies of the chains and of the proposals, the sums of
// squares of the two ends, and the numbers that divide the sums' differences.
template <class T>
struct Proposals {
  const double* energy;
  double* proposed;
  double constant, temperature;
  const T *before, *after;
  const double* scale;
};

// LossRow's numbers for each row or each element. An array that a kernel does not use may be null.
template <class T>
struct LossRows {
  const T *kappa, *lambda, *mu, *weight, *grad;
};

// The samples that a target's score is computed for: `rows` whole samples of `width` elements or,
// for an elementwise target, `width` elements of one sample, from `element` on.
template <class T>
struct Samples {
  int64_t rows, width;
  int64_t element, elements;  // the first element here, and how many a whole sample has
  const T* params;
  int64_t param_count;
  T* scratch;
};

template <class T>
struct TargetOf {
  bool elementwise;                       // whether samples may be cut
  int64_t (*scratch)(const Samples<T>&);  // numbers of scratch that the functions below need; null: none
  void (*prepare)(const Samples<T>&);     // called once before the scores of these samples; may be null
  void (*score)(const Samples<T>&, const T* x, T* out);
  // Makes the score, and one energy per row; for an elementwise target, the part of the energy that
  // these elements add. `room` holds one number per element of x and one per row. Null: the target
  // has no energy of its own.
  void (*score_and_energy)(const Samples<T>&, const T* x, T* out, T* room, double* energy);
  int64_t lanes = 0;  // this many samples take no longer than two; 0: the target has no lanes
  double (*cost)(const Samples<T>&) = nullptr;  // multiplications per element of the score; null: a few
};

template <class T>
struct TargetTable {
  TargetOf<T> kernels[kTargets];
};

struct ChunkKernels {
  const char* name;
  // normals and uniforms write the wanted numbers of each call. They make calls up to the next
  // multiple of 16, so `out` must have room for those.
  void (*normals)(const Calls&, int64_t calls, float* out);
  void (*uniforms)(const Calls&, int64_t calls, float* out);
  void (*from_half)(const uint16_t*, int64_t n, float*);
  void (*to_half)(const float*, int64_t n, uint16_t*);
  void (*from_bfloat16)(const uint16_t*, int64_t n, float*);
  void (*to_bfloat16)(const float*, int64_t n, uint16_t*);

  template <class T>
  struct Of {
    void (*perturb)(int64_t n, const T* x, const float* z, T alpha, T sigma, T* out);
    // mean and mask may be null; out may be x.
    void (*step)(int64_t n, const T* x, const T* g, const float* z, const uint8_t* mask, T a, T b, T c,
                 Bounds<T>, T* out, T* mean);
    // The same with coefficients for each element. In step_each `a` may be null, which stands for
    // 1.
    void (*perturb_each)(int64_t n, const T* x, const float* z, const T* alpha, const T* sigma, T* out);
    void (*step_each)(int64_t n, const T* x, const T* g, const float* z, const uint8_t* mask, const T* a,
                      const T* b, const T* c, Bounds<T>, T* out, T* mean);
    // Writes each value `length` times, but the first value `skip` times fewer; n numbers in all.
    void (*repeat)(int64_t n, int64_t length, int64_t skip, const T* values, T* out);
    // Makes LossRow's five numbers of n runs from the values kappa, lambda, mu and weight, and as a
    // sixth copies the last value, the gradient from above.
    void (*loss_rows)(int64_t n, const double* const* values, double factor, bool over_kappa2, double scale,
                      T* const* out);
    // Sums each row of numbers, in the order in which LossOf::sums adds. Rows lie one after
    // another.
    void (*sums)(int64_t rows, int64_t width, const T* numbers, T* out);
    // Writes a block of losses, sums times weights, and returns their sum.
    double (*sum_of_block)(const T* sums, const double* weights, double* losses);
    // Whether all numbers are in [least, the largest finite number].
    bool (*all_within)(int64_t n, const T* x, T least);
    // moved: x + by v; scaled: by x. `by` has one number per row.
    void (*moved)(int64_t rows, int64_t width, const T* x, const T* v, const T* by, T* out);
    void (*scaled)(int64_t rows, int64_t width, const T* x, const T* by, T* out);
    // The sums of LossOf::sums, where kappa is one number per row, and lambda and mu one for all.
    void (*squares)(int64_t rows, int64_t width, LossOperands<T, T>, const T* kappa, T lambda, T mu, T* out);
    // Adds the proposals' constant to their energies, and writes the logs of n acceptances
    // (common/metropolis.h). before and after are the sums of squares.
    void (*log_acceptances)(int64_t n, const Proposals<T>&, double* out);
    // Copies the chosen rows of `from` to `to`.
    void (*choose)(int64_t rows, int64_t width, const bool* chosen, const T* from, T* to);
  };
  Of<float> f32;
  Of<double> f64;

  // The kernels of a loss, whose residuals are r. They take some rows with coefficients for each
  // row, or n elements with coefficients for each element.
  template <class T, class Z>
  struct LossOf {
    // The sum of r^2 of each row; and grad r, unless `grad` is null.
    void (*sums)(int64_t rows, int64_t width, LossOperands<T, Z>, const LossRows<T>&, T* sums, T* grad);
    void (*elementwise)(int64_t rows, int64_t width, LossOperands<T, Z>, const LossRows<T>&,
                        T* out);  // weight r^2
    // (grad r) grad_output, where grad_output is one number per row or, with `each`, one per
    // element.
    void (*grad)(int64_t rows, int64_t width, LossOperands<T, Z>, const LossRows<T>&, const T* grad_output,
                 bool each, T* out);
    // r^2 or, where weighted, weight r^2; and grad r, unless `grad` is null.
    void (*terms_each)(int64_t n, LossOperands<T, Z>, const LossRows<T>&, bool weighted, T* terms, T* grad);
    void (*grad_each)(int64_t n, LossOperands<T, Z>, const LossRows<T>&, const T* grad_output, T* out);
    // Sums the squares of each row of numbers, in the order in which `sums` adds. Rows lie one
    // after another.
    void (*squares)(int64_t rows, int64_t width, const Z* numbers, T* sums);
  };
  LossOf<float, float> loss_f32;
  LossOf<double, float> loss_f64;
  LossOf<double, double> loss_f64_own;  // with the caller's float64 noise

  // Writes which of n <= kCalls proposals are accepted without the exponential, and lists in `open`
  // those that only the exponential can decide; returns how many these are.
  int64_t (*accept_surely)(int64_t n, const double* alpha, const float* uniforms, bool* accept,
                           int16_t* open);
  void (*add_flags)(int64_t n, const bool* flags, int64_t* counts);
  // probabilities: min(1, e^x), and 0 for NaN; exponentials: e^x.
  void (*probabilities)(int64_t n, const double* x, double* out);
  void (*exponentials)(int64_t n, const double* x, double* out);

  TargetTable<float> targets_f32;
  TargetTable<double> targets_f64;
  NetworkKernels<float> network_f32;
  NetworkKernels<double> network_f64;
};

// The level in use: the best this machine has, or the one that was forced.
const ChunkKernels& chunk_kernels();

}  // namespace pyebm
