// The Langevin step, for the ops that have found its step size.
#pragma once

#include "../common/langevin.h"
#include "coefficients.h"

namespace pyebm {

struct StepCall {
  const Tensor &out, &x, &score;
  NoiseName noise;
  const MaybeTensor &mean, &mask;
  std::optional<double> low, high, score_clip;
};

void take_langevin_step(const Call& call, const StepCall& options, const RowSource& step_size,
                        const RowSource& temperature);

}  // namespace pyebm
