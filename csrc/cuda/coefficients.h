// Coefficients, each rounded once. The host rounds a number. A kernel of one thread per row rounds
// the values of a device tensor (one per sample, or one for each of the equal runs of a sample's
// elements) into a table, so that the loops over elements never touch float64.
#pragma once

#include <numeric>

#include "binding.h"

namespace pyebm {

struct RowSource {
  double number = 0.0;
  const void* data = nullptr;
  int64_t stride = 0;  // 0: one value for all samples
  bool is_double = false;
  int64_t count = 1;  // of values in `data`
  int64_t share = 1;  // rows of the table that share one value

  PYEBM_HD double at(int64_t row) const {
    if (!data) return number;
    if (share != 1) row /= share;
    return is_double ? static_cast<const double*>(data)[row * stride]
                     : static_cast<const float*>(data)[row * stride];
  }
};

// elements: of a sample, or 1 where the op takes at most one value per sample.
inline RowSource row_source(const Call& call, const char* name, double number, const MaybeTensor& rows,
                            int64_t samples, int64_t elements = 1) {
  if (!rows || rows->numel() == 0) return {number};
  const int64_t count = rows->numel();
  const bool fits = count == 1 || count == samples ||
                    (samples && count % samples == 0 && elements % (count / samples) == 0);
  if (!fits) {
    fail(call.op, ": ", name, " must be one value, one per sample",
         elements == 1 ? "" : " or one for each of the equal parts of a sample", "; got ", count, " for ",
         samples, " samples");
  }
  return {number, rows->data_ptr(), count == 1 ? 0 : rows->stride(0),
          rows->scalar_type() == ScalarType::Double, count};
}

// One Row for all samples, or a table of them.
template <class Row>
struct RowTable {
  Row same;
  const Row* rows = nullptr;
  uint32_t stride = 0;  // 0: one row for all
};

// A kernel's knowledge of a sample before it reads the elements: the noise's name and the row of
// coefficients.
template <class Row>
struct SampleRows {
  static constexpr bool kFine = false;
  NoiseName noise;
  RowTable<Row> table;
  uint32_t own;  // 1: samples have seeds, ids or rows of their own

  SampleRows(const NoiseName& noise, const RowTable<Row>& table)
      : noise(noise), table(table), own(table.rows || noise.seeds || noise.ids) {}

  __device__ __forceinline__ void find(uint32_t sample, SampleNoise& drawn, Row& row,
                                       bool is_drawn = true) const {
    drawn = is_drawn ? noise.of_all(sample) : SampleNoise{};
    row = table.same;
    // A loop of at most one turn: ptxas would turn an `if` into predicated instructions, which
    // every call would pay for.
#pragma unroll 1
    for (uint32_t turn = 0; turn < own; ++turn) {
      noise.make_own(sample, drawn);
      if (table.rows) row = table.rows[static_cast<uint64_t>(sample) * table.stride];
    }
  }

  // The row of a thread's k-th element.
  __device__ __forceinline__ const Row& row_of(const Row& row, const Place&, int) const { return row; }
};

// Like SampleRows, for coefficients that change within a sample: row k serves the k-th run of
// elements, counted through all samples.
template <class Row>
struct Runs {
  static constexpr bool kFine = true;
  SampleRows<Row> samples;  // for the noise
  const Row* rows;
  int64_t elements;  // of a sample
  Divider run;

  __device__ __forceinline__ void find(uint32_t sample, SampleNoise& drawn, Row& row,
                                       bool is_drawn = true) const {
    samples.find(sample, drawn, row, is_drawn);
  }
  // Beyond the sample's end there may be no row, so elements there get row 0.
  __device__ __forceinline__ const Row& row_of(const Row&, const Place& at, int k) const {
    return rows[k < at.count ? run.divide(static_cast<uint64_t>(at.sample * elements + at.element() + k))
                             : 0];
  }
};

template <class Row, class Make>
__global__ void __launch_bounds__(kThreads) make_rows(Make make,  // from a sample's index to its row
                                                      Row* rows,  // [count]
                                                      int64_t count) {
  const int64_t sample = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (sample < count) rows[sample] = make(sample);
}

template <class Row, class Make>
const Row* fill_rows(const Call& call, Make make, const Tensor& memory, int64_t count) {
  Row* rows = static_cast<Row*>(memory.data_ptr());
  call.launch(make_rows<Row, Make>, ceil_div(count, kThreads), make, rows, count);
  return rows;
}

// make(sample) makes a sample's Row from the sources, on the host or on the device. The table lives
// as long as `memory`, and longer for work on this stream, which is all that a launch needs.
template <class Row, class Make>
RowTable<Row> row_table(const Call& call, const Tensor& like, std::initializer_list<RowSource> sources,
                        Make make, MaybeTensor& memory) {
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

// The length of the longest equal runs of elements in which no coefficient changes, or 0 where none
// changes within a sample. Each run has a row of the table; `share` tells each source how many rows
// in succession have one of its values.
inline int64_t run_of(const Tensor& like, std::initializer_list<RowSource*> sources) {
  const int64_t samples = like.size(0), elements = elements_of(like);
  int64_t run = elements;
  for (const RowSource* source : sources) {
    if (source->count > samples && source->count > 1)
      run = std::gcd(run, elements / (source->count / samples));
  }
  if (run == elements) return 0;
  for (RowSource* source : sources) source->share = like.numel() / run / source->count;
  return run;
}

// Calls body(samples) with the SampleRows, or Runs, that the kernels take.
template <class Row, class Make, class Body>
void with_rows(const Call& call, const Tensor& like, const NoiseName& noise,
               std::initializer_list<RowSource> sources, int64_t run, Make make, Body body) {
  MaybeTensor memory;
  if (!run) return body(SampleRows<Row>(noise, row_table<Row>(call, like, sources, make, memory)));
  const int64_t count = like.numel() / run;
  memory = workspace<Row>(like, count);
  const Row* rows = fill_rows<Row>(call, make, *memory, count);
  body(Runs<Row>{SampleRows<Row>(noise, {}), rows, elements_of(like), Divider(run)});
}

}  // namespace pyebm
