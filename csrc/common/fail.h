// fail() refuses bad input with Python's ValueError, before any memory is touched; fail_to_run()
// raises RuntimeError for a launch that the machine could not do.
#pragma once

#include <sstream>
#include <stdexcept>

namespace pyebm {

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

template <class... Parts>
[[noreturn]] void fail_to_run(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

}  // namespace pyebm
