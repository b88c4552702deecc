// All kernels of one level: the last include of each level_*.cpp, once, after its target pragma
// (see chunk_kernels.h).
#include "vectors.h"

#if defined(PYEBM_PHILOX_LANES)
#include "vector_groups.h"
#endif

#include "chunk_kernels.h"
#include "sample_tiles.h"

#include "row_sums.h"

#include "loss_kernels.h"
#include "square_kernels.h"
#include "noise_kernels.h"

#include "single_sample.h"

#include "mixture_kernels.h"

#include "mixture_single_sample.h"

#include "covariance_kernels.h"

#include "target_sums.h"

#include "target_kernels.h"

#include "network_activations.h"
#include "network_lanes.h"

#include "network_kernels.h"

#include "network_hvp.h"

#include "network_sums.h"

#include "network_losses.h"

#include "network_gradient.h"

#include "network_table.h"

namespace {

#define PYEBM_ELEMENTS_OF(T)                                                                               \
  {perturb<T>,      step<T>,       perturb_each<T>, step_each<T>, repeat<T>,  loss_rows<T>,       sums<T>, \
   sum_of_block<T>, all_within<T>, moved<T>,        scaled<T>,    squares<T>, log_acceptances<T>, choose<T>}
#define PYEBM_LOSS_OF(T, Z) \
  {loss_sums<T, Z>, elementwise<T, Z>, grad<T, Z>, terms_each<T, Z>, grad_each<T, Z>, squares<T, Z>}

constexpr ChunkKernels kernels_of(const char* name) {
  return {name,
          normals,
          uniforms,
          from_half,
          to_half,
          from_bfloat16,
          to_bfloat16,
          PYEBM_ELEMENTS_OF(float),
          PYEBM_ELEMENTS_OF(double),
          PYEBM_LOSS_OF(float, float),
          PYEBM_LOSS_OF(double, float),
          PYEBM_LOSS_OF(double, double),
          accept_surely,
          add_flags,
          probabilities,
          exponentials,
          target_table<float>(),
          target_table<double>(),
          NetworkTarget<float>::table(),
          NetworkTarget<double>::table()};
}

}  // namespace
