// Bad input, as Python's ValueError, before any memory is touched; and what a machine could not do,
// as RuntimeError.
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
