// The mean of one number per sample. Every backend adds the numbers in the same order, whatever the
// threads (pyebm/_composed/metropolis.py does so too): the second half is added to the first half,
// until one number is left.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace pyebm {

inline double batch_mean(std::vector<double> values) {
  const size_t count = values.size();
  size_t width = 1;
  while (width < count) width *= 2;
  values.resize(width);  // with zeros, which change no sum
  for (size_t half = width / 2; half; half /= 2) {
    for (size_t i = 0; i < half; ++i) values[i] += values[half + i];
  }
  return values[0] / static_cast<double>(count);
}

}  // namespace pyebm
