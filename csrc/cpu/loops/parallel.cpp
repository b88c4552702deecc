#include "parallel.h"

// For the tests of threads: other threads are called on a busy machine too.
extern "C" __attribute__((visibility("default"))) void pyebm_always_call_threads(bool always) {
  pyebm::OtherThreads::always_call(always);
}
