// Torch's parallel_for in plain threads, for ThreadSanitizer (sanitized.py). Linked into the
// library, it takes the place of torch's.
#include <torch/csrc/stable/c/shim.h>

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

extern "C" AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t, ParallelFunc call, void* context) {
  constexpr int64_t kThreads = 3;
  const int64_t part = std::max<int64_t>((end - begin + kThreads - 1) / kThreads, 1);
  std::vector<std::exception_ptr> thrown(kThreads);
  std::vector<std::thread> threads;
  for (int64_t at = begin, k = 0; at < end; at += part, ++k) {
    threads.emplace_back([=, &thrown] {
      try {
        call(at, std::min(at + part, end), context);
      } catch (...) {
        thrown[k] = std::current_exception();
      }
    });
  }
  for (std::thread& each : threads) each.join();
  for (const std::exception_ptr& each : thrown) {
    if (each) std::rethrow_exception(each);
  }
  return AOTI_TORCH_SUCCESS;
}
