// The loop over samples that every op shares: chunks of kChunk elements.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "coefficient.h"

namespace pyebm {

// The chunks for which another thread is woken: some 15 us of work in one pass or, where each chunk
// takes many steps, some 40 us over all steps. Less work would not pay for the waking.
constexpr int64_t kGrain = 32, kGrainOfSteps = 128;

// The Philox calls of each of some steps that are worth waking a thread.
inline int64_t calls_worth_a_thread(int64_t steps) {
  return std::min(kGrain * kCalls, kGrainOfSteps * kCalls / std::max<int64_t>(steps, 1));
}

// The shape (B, ...) of the samples, cut into chunks: parts of one large sample, or several whole
// small ones.
struct Shape {
  int64_t samples, elements;

  // at_once: the samples that are worked on together. Small samples are cut into chunks that add up
  // to that many.
  explicit Shape(const Tensor& tensor, int64_t at_once = 0)
      : Shape(tensor.size(0), tensor.size(0) ? tensor.numel() / tensor.size(0) : 0, at_once) {}
  Shape(int64_t samples, int64_t elements, int64_t at_once)
      : samples(samples), elements(elements), groups((elements + 3) / 4) {
    if (4 * groups > kChunk / 2) {
      chunks_per_sample = (elements + kChunk - 1) / kChunk;
      chunks = samples * chunks_per_sample;
    } else if (elements) {
      samples_per_chunk = kCalls / groups;
      if (at_once) samples_per_chunk = at_once / ((at_once + samples_per_chunk - 1) / samples_per_chunk);
      chunks = (samples + samples_per_chunk - 1) / samples_per_chunk;
    }
  }

  // For ops that make no normals: puts as many small samples in a chunk as it has elements for,
  // whatever number of Philox calls they would take.
  void without_noise() {
    if (!samples_per_chunk) return;
    samples_per_chunk = kChunk / elements;
    chunks = (samples + samples_per_chunk - 1) / samples_per_chunk;
  }

  // Cuts a batch of small samples into equally many chunks for each thread, where `steps` on each
  // chunk are worth waking a thread. No bits depend on the cut.
  void share(int64_t threads, int64_t steps) {
    constexpr int64_t kLeast = 32;  // Philox calls, below which a chunk costs more per call
    if (!samples_per_chunk || samples * groups < calls_worth_a_thread(steps)) return;
    const int64_t wanted = (chunks + threads - 1) / threads * threads;
    const int64_t least = std::min((kLeast + groups - 1) / groups, samples_per_chunk);
    samples_per_chunk = std::max(least, (samples + wanted - 1) / wanted);
    chunks = (samples + samples_per_chunk - 1) / samples_per_chunk;
  }

  int64_t calls_of_chunk() const { return samples_per_chunk ? samples_per_chunk * groups : kCalls; }

  int64_t groups;  // Philox calls a sample
  int64_t chunks_per_sample = 0, samples_per_chunk = 0;
  int64_t chunks = 0;
};

struct Chunk {
  int64_t sample, rows;  // the samples [sample, sample + rows)
  int64_t element;       // the first element within a sample; not 0 only where rows == 1
  int64_t width;         // elements of each sample
  int64_t first, count;  // the same as a run of flat logical indices

  Chunk(const Shape& shape, int64_t index) {
    if (shape.chunks_per_sample) {
      sample = index / shape.chunks_per_sample;
      rows = 1;
      element = index % shape.chunks_per_sample * kChunk;
      width = std::min(kChunk, shape.elements - element);
    } else {
      sample = index * shape.samples_per_chunk;
      rows = std::min(shape.samples_per_chunk, shape.samples - sample);
      element = 0;
      width = shape.elements;
    }
    first = sample * shape.elements + element;
    count = rows * width;
  }

  // The same elements, each as a row.
  Chunk of_elements() const {
    Chunk each = *this;
    each.rows = count;
    each.width = 1;
    return each;
  }

  // The same samples, each with one element.
  Chunk of_one_element() const {
    Chunk one = *this;
    one.element = 0;
    one.width = 1;
    one.first = sample;
    one.count = rows;
    return one;
  }
};

// Room for one operand of a chunk that does not lie in memory as the kernels want it.
template <class T>
struct Buffer {
  alignas(64) T data[kChunk];
  Buffer() {}  // leaves the memory uninitialised: zeros would cost more than most chunks
};

// Calls body(rows, width, numbers) for the whole chunk: with one number for each row, or with the
// chunk as one row where one number serves all.
template <class T, class Body>
void with_rows(const Chunk& chunk, const Coefficient& coefficient, Body body) {
  alignas(64) T room[kChunk];
  if (coefficient.per_sample())
    return body(chunk.rows, chunk.width, coefficient.rows(chunk.sample, chunk.rows, room));
  body(int64_t{1}, chunk.count, coefficient.rows(0, 1, room));
}

template <class T, class Z>
const ChunkKernels::LossOf<T, Z>& loss_kernels_of() {
  if constexpr (std::is_same_v<Z, double>)
    return chunk_kernels().loss_f64_own;
  else if constexpr (std::is_same_v<T, double>)
    return chunk_kernels().loss_f64;
  else
    return chunk_kernels().loss_f32;
}

// Calls make() once a thread to get a body, and calls body(chunk, index) for all chunks. A thread
// takes whole runs of `span` chunks, in order. The result never depends on the threads.
template <class Make>
void for_each_chunk(const Shape& shape, int64_t span, Make make) {
  parallel((shape.chunks + span - 1) / span, std::max<int64_t>(kGrain / span, 1), [&] {
    return [&, body = make()](int64_t from, int64_t to) mutable {
      for (int64_t index = from * span; index < std::min(to * span, shape.chunks); ++index)
        body(Chunk(shape, index), index);
    };
  });
}
template <class Make>
void for_each_chunk(const Shape& shape, Make make) {
  for_each_chunk(shape, 1, make);
}

}  // namespace pyebm
