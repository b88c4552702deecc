// What runs on one chunk of samples in the L1 cache, compiled once per SIMD level; everything
// around it is plain C++.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "../../common/langevin.h"
#include "../../common/losses.h"
#include "../../common/targets.h"
#include "network.h"

// The loop behind it may be vectorised: no element depends on another.
#if defined(__clang__)
#define PYEBM_VECTOR_LOOP _Pragma("clang loop vectorize(assume_safety)")
#else
#define PYEBM_VECTOR_LOOP _Pragma("GCC ivdep")
#endif

namespace pyebm {

constexpr int64_t kChunk = 1024;  // normals a chunk; 4 KB of float32 per operand
constexpr int64_t kCalls = kChunk / 4;
constexpr int64_t kLanes =
    16;  // partial sums of a loss, the same at every SIMD level, so that the sum is too

// The Philox calls of a chunk: counter words 0 and 1 of each (the others are shared), and its key
// where samples differ in it.
struct Calls {
  alignas(64) uint32_t group[kCalls];
  alignas(64) uint32_t sample[kCalls];
  alignas(64) uint32_t key0[kCalls];
  alignas(64) uint32_t key1[kCalls];
  uint32_t step, stream;
  bool same_key;
  int64_t wanted;  // numbers of each call: 4, or of narrow samples the first 1 or 2
};

// Elementwise operands of a loss; null where there is none. Z is float for regenerated noise, T for
// the caller's own.
template <class T, class Z>
struct LossOperands {
  const T* pred;
  const Z* z;
  const T* x0;
};

// LossRow's for each row or element; those that a kernel does not use may be null.
template <class T>
struct LossRows {
  const T *kappa, *lambda, *mu, *weight, *grad;
};

// What the score of a target sees: `rows` whole samples of `width` elements or, of an elementwise
// target, `width` elements of one sample, from `element` on.
template <class T>
struct Samples {
  int64_t rows, width;
  int64_t element, elements;  // of a sample: the first here, and how many there are
  const T* params;
  int64_t param_count;
  T* scratch;
};

template <class T>
struct TargetOf {
  bool elementwise;  // samples may be cut
  bool (*fits)(int64_t elements,
               int64_t param_count);      // may a sample have so many elements, given so many parameters?
  int64_t (*scratch)(const Samples<T>&);  // elements of room that the other two want; null: none
  void (*prepare)(const Samples<T>&);     // once, before the scores of these samples; may be null
  void (*score)(const Samples<T>&, const T* x, T* out);
  // The score, and one energy a row; of an elementwise target, what these elements add to it. room:
  // an element for each of x and one a row. Null: this target has none.
  void (*both)(const Samples<T>&, const T* x, T* out, T* room, double* energy);
  int64_t lanes = 0;  // samples that take no longer than two; 0: there are no such lanes
  double (*cost)(const Samples<T>&) = nullptr;  // multiplications for an element of the score; null: a few
};

struct ChunkKernels {
  const char* name;
  // Write the wanted numbers of each call, for the calls rounded up to a multiple of 16.
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
    // The same with coefficients for each element; a may be null: 1.
    void (*perturb_each)(int64_t n, const T* x, const float* z, const T* alpha, const T* sigma, T* out);
    void (*step_each)(int64_t n, const T* x, const T* g, const float* z, const uint8_t* mask, const T* a,
                      const T* b, const T* c, Bounds<T>, T* out, T* mean);
    // Each value `length` times, but the first `skip` times less; n in all.
    void (*repeat)(int64_t n, int64_t length, int64_t skip, const T* values, T* out);
    // LossRow's numbers of n runs and a sixth as it is, from kappa, lambda, mu, weight and that.
    void (*loss_rows)(int64_t n, const double* const* values, double factor, bool over_kappa2, double scale,
                      T* const* out);
    // Of rows of numbers one after another, in the order of LossOf::sums.
    void (*sums)(int64_t rows, int64_t width, const T* numbers, T* out);
    bool (*all_finite)(int64_t n, const T* x);
    // x + by v and by x, where `by` is one number a row.
    void (*moved)(int64_t rows, int64_t width, const T* x, const T* v, const T* by, T* out);
    void (*scaled)(int64_t rows, int64_t width, const T* x, const T* by, T* out);
    // LossOf::sums, kappa being one a row.
    void (*squares)(int64_t rows, int64_t width, LossOperands<T, T>, const T* kappa, T lambda, T mu, T* out);
    // Rows of `to` become those of `from` where they are chosen.
    void (*choose)(int64_t rows, int64_t width, const bool* chosen, const T* from, T* to);
  };
  Of<float> f32;
  Of<double> f64;

  // What a loss does with the residuals r of some rows, which have coefficients for each row, or of
  // n elements that have their own.
  template <class T, class Z>
  struct LossOf {
    // sum r^2 of each row, and grad r, unless null.
    void (*sums)(int64_t rows, int64_t width, LossOperands<T, Z>, const LossRows<T>&, T* sums, T* grad);
    void (*elementwise)(int64_t rows, int64_t width, LossOperands<T, Z>, const LossRows<T>&,
                        T* out);  // weight r^2
    // (grad r) grad_output, which is one number a row or one per element
    void (*grad)(int64_t rows, int64_t width, LossOperands<T, Z>, const LossRows<T>&, const T* grad_output,
                 bool each, T* out);
    // r^2 or, where weighted, weight r^2; and grad r, unless null.
    void (*terms_each)(int64_t n, LossOperands<T, Z>, const LossRows<T>&, bool weighted, T* terms, T* grad);
    void (*grad_each)(int64_t n, LossOperands<T, Z>, const LossRows<T>&, const T* grad_output, T* out);
    // Of rows of numbers one after another, each added as `sums` adds residuals.
    void (*squares)(int64_t rows, int64_t width, const Z* numbers, T* sums);
  };
  LossOf<float, float> loss_f32;
  LossOf<double, float> loss_f64;
  LossOf<double, double> loss_f64_own;  // with the caller's float64 noise

  // min(1, e^x), and 0 for NaN; e^x.
  void (*probabilities)(int64_t n, const double* x, double* out);
  void (*exponentials)(int64_t n, const double* x, double* out);

  TargetOf<float> targets_f32[kTargets];
  TargetOf<double> targets_f64[kTargets];
  NetworkKernels<float> network_f32;
  NetworkKernels<double> network_f64;
};

// The level in use: the best this machine has, or the one that was forced.
const ChunkKernels& chunk_kernels();

}  // namespace pyebm
