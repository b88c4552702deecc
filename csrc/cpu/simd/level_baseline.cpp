// The kernels for any machine, in the instructions that the compiler takes by default.
#include "../../common/normal.h"
#include "../../common/philox.h"
#include "../../common/targets.h"
#include "kernel_table.h"
#define PYEBM_VECTOR_BYTES 16
#include "level_table.h"

namespace pyebm {
extern const ChunkKernels baseline_kernels = kernels_of("baseline");
}
