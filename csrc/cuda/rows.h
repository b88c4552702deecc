// Coefficients. A number is rounded on the host, once; one value per sample, in a device tensor, by a kernel of one thread per
// sample into a small table, so that the loops over elements never touch float64.
#pragma once

#include "binding.h"

namespace pyebm {

struct RowSource {
  double number = 0.0;
  const void* data = nullptr;
  int64_t stride = 0;  // 0: one value for all samples
  bool is_double = false;

  PYEBM_HD double at(int64_t sample) const {
    if (!data) return number;
    return is_double ? static_cast<const double*>(data)[sample * stride] : static_cast<const float*>(data)[sample * stride];
  }
};

inline RowSource row_source(const Call& call, const char* name, double number, const MaybeTensor& rows, int64_t samples) {
  if (!rows || rows->numel() == 0) return {number};
  const ScalarType type = rows->scalar_type();
  const int64_t count = rows->numel();
  if (!call.is_here(*rows) || (type != ScalarType::Float && type != ScalarType::Double) || (count != 1 && count != samples)) {
    fail(call.op, ": ", name, " must be one float32 or float64 value per sample on the samples' device");
  }
  return {number, rows->data_ptr(), count == 1 ? 0 : rows->stride(0), type == ScalarType::Double};
}

// One Row for all samples, or a table of them.
template <class Row>
struct RowTable {
  Row same;
  const Row* rows = nullptr;
  uint32_t stride = 0;  // 0: one row for all
};

// What a kernel knows about a sample before it has seen its elements.
template <class Row>
struct Samples {
  NoiseName noise;
  RowTable<Row> table;
  uint32_t own;  // 1: some of it is each sample's own

  Samples(const NoiseName& noise, const RowTable<Row>& table)
      : noise(noise), table(table), own(table.rows || noise.seeds || noise.ids) {}

  __device__ __forceinline__ void find(uint32_t sample, SampleNoise& drawn, Row& row, bool is_drawn = true) const {
    drawn = is_drawn ? noise.of_all(sample) : SampleNoise{};
    row = table.same;
    // A loop of at most one turn: of an `if` ptxas makes predicated instructions, for which everybody pays.
#pragma unroll 1
    for (uint32_t turn = 0; turn < own; ++turn) {
      noise.make_own(sample, drawn);
      if (table.rows) row = table.rows[static_cast<uint64_t>(sample) * table.stride];
    }
  }
};

template <class Row, class Make>
__global__ void __launch_bounds__(kThreads) make_rows(Make make, Row* rows, int64_t count) {
  const int64_t sample = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (sample < count) rows[sample] = make(sample);
}

template <class Row, class Make>
const Row* fill_rows(const Call& call, Make make, const Tensor& memory, int64_t count) {
  Row* rows = static_cast<Row*>(memory.data_ptr());
  call.launch(make_rows<Row, Make>, ceil_div(count, kThreads), make, rows, count);
  return rows;
}

// make(sample) gives a sample's Row from its sources, here or on the device. The table lives as long as `memory`, and longer on
// this stream, which is all that a launch needs.
template <class Row, class Make>
RowTable<Row> row_table(const Call& call, const Tensor& like, std::initializer_list<RowSource> sources, Make make,
                        MaybeTensor& memory) {
  bool from_tensors = false, per_sample = false;
  for (const RowSource& source : sources) {
    from_tensors = from_tensors || source.data;
    per_sample = per_sample || source.stride;
  }
  if (!from_tensors) return {make(0)};
  const int64_t count = per_sample ? like.size(0) : 1;
  memory = workspace<Row>(like, count);
  return {Row{}, fill_rows<Row>(call, make, *memory, count), per_sample};
}

}  // namespace pyebm
