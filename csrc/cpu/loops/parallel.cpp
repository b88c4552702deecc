#include "parallel.h"

// Lets the tests call the other threads on a busy machine too, where their turns are to be tested.
extern "C" __attribute__((visibility("default"))) void pyebm_always_call_threads(bool always) {
  pyebm::OtherThreads::always_call(always);
}
