// The mean of one number per sample, for the ops that need one of the whole batch.
#pragma once

#include "binding.h"

namespace pyebm {

// The mean of [count] numbers, as a tensor of one float64 on the device of `like`.
Tensor batch_mean(const Call& call, const Tensor& like, const double* numbers, int64_t count);

}  // namespace pyebm
