// The known elements of a chain: those outside of its mask, which become alpha known + sigma z
// before each score. marginals has alpha and sigma of every step.
#pragma once

#include "op_tensors.h"

namespace pyebm {

inline void check_known(const char* op, const MaybeTensor& known, const MaybeTensor& marginals,
                        const MaybeTensor& mask, int64_t n_steps) {
  if (!known) return;
  if (!mask) fail(op, ": known needs a mask that says which elements are not");
  const Tensor& table = *marginals;
  if (table.size(0) != n_steps || table.size(1) != 2)
    fail(op, ": marginals must have a row of 2 for each of ", n_steps, " steps, got (", table.size(0), ", ",
         table.size(1), ")");
}

}  // namespace pyebm
