// The kernels for any machine: SSE2 on x86-64, NEON on arm64, whatever the compiler's default is elsewhere.
#include "../common/normal.h"
#include "../common/philox.h"
#include "chunk.h"
#include "chunk_kernels.h"

namespace pyebm {
extern const ChunkKernels baseline_kernels = kernels_of("baseline");
}
