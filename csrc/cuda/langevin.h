// The Langevin step with given step sizes, which langevin_step and corrector_step share.
#pragma once

#include "../common/langevin.h"
#include "coefficients.h"

namespace pyebm {

struct StepCall {
  const Tensor &out, &x, &score;
  NoiseName noise;
  const MaybeTensor &mean, &mask;
  Bounds<double> bounds;
};

void take_langevin_step(const Call& call, const StepCall& options, const RowSource& step_size,
                        const RowSource& temperature);

}  // namespace pyebm
