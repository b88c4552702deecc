// The code that the ops on closed-form targets share: blocks of samples that one thread keeps in
// its cache, and the thread's buffers.
#pragma once

#include <algorithm>

#include "../../common/target_facts.h"
#include "line.h"
#include "chunk_noise.h"

namespace pyebm {

template <class T>
const TargetOf<T>& checked_target(const char* op, int64_t target, const Tensor& params, const Shape& shape) {
  if (shape.chunks) check_target(op, target, shape.elements, params.numel());
  const ChunkKernels& kernels = chunk_kernels();
  if constexpr (std::is_same_v<T, double>)
    return kernels.targets_f64.kernels[target];
  else
    return kernels.targets_f32.kernels[target];
}

// The samples that a thread takes at once: as many as fill the target's lanes, or fewer where
// samples are few, so that every thread has some.
template <class T>
int64_t samples_at_once(const TargetOf<T>& target, int64_t samples) {
  if (!target.lanes) return 0;
  const int64_t threads = torch::stable::get_num_threads();
  return std::max<int64_t>(1, std::min(target.lanes, (samples + threads - 1) / threads));
}

// Consecutive chunks that one thread works on through all steps.
struct Block {
  int64_t begin, end;      // the chunks
  int64_t sample, rows;    // the samples they cover,
  int64_t element, width;  // and the elements of each: all of them unless rows == 1
  int64_t first, count;    // the same as a run of flat logical indices
};

class Blocks {
 public:
  const Shape& shape;
  int64_t count;

  // whole_samples: no sample may be cut. at_once: the number that the shape was made with. work:
  // the cost of each of the steps, counted in elementwise steps.
  Blocks(const Shape& s, bool whole_samples, int64_t at_once, double work, int64_t steps = 1)
      : shape(s), each_(whole_samples && s.chunks_per_sample ? s.chunks_per_sample : 1) {
    if (at_once)
      each_ *= s.chunks_per_sample
                   ? at_once
                   : std::max<int64_t>(1, at_once / std::max<int64_t>(1, s.samples_per_chunk));
    count = (shape.chunks + each_ - 1) / each_;
    const double calls_of_block = std::max(1.0, each_ * work) * static_cast<double>(shape.calls_of_chunk());
    grain_ = std::max<int64_t>(1, static_cast<int64_t>(calls_worth_a_thread(steps) / calls_of_block));
  }

  Block operator[](int64_t index) const {
    Block block;
    block.begin = index * each_;
    block.end = std::min(block.begin + each_, shape.chunks);
    const Chunk head(shape, block.begin), tail(shape, block.end - 1);
    block.sample = head.sample;
    block.rows = tail.sample + tail.rows - head.sample;
    block.element = head.element;
    block.first = head.first;
    block.count = tail.first + tail.count - head.first;
    block.width = block.count / block.rows;
    return block;
  }

  int64_t grain() const { return grain_; }
  void share(int64_t grain) { grain_ = grain; }  // blocks that a thread takes at least

 private:
  int64_t each_, grain_;
};

// Calls make() once a thread to get a body, and calls body(block) for every block. The result never
// depends on the threads.
template <class Make>
void for_each_block(const Blocks& blocks, Make make) {
  parallel(blocks.count, blocks.grain(), [&] {
    return [&, body = make()](int64_t begin, int64_t end) mutable {
      for (int64_t index = begin; index < end; ++index) body(blocks[index]);
    };
  });
}

// The work of a step of the chain, counted in elementwise steps. An elementwise step takes as long
// as some 60 multiplications per element.
template <class T>
double step_cost(const TargetOf<T>& target, const Shape& shape, const Tensor& params) {
  if (!target.cost || !shape.chunks) return 1;
  return 1 + target.cost({1, shape.elements, 0, shape.elements, nullptr, params.numel(), nullptr}) / 60;
}

// Copies n numbers of `view`, from its flat index `first` on, to `to`; write_numbers copies them
// back.
template <class T>
void read_numbers(const View& view, int64_t first, int64_t n, T* to) {
  for (int64_t at = 0; at < n; at += kChunk) {
    const int64_t count = std::min(kChunk, n - at);
    const T* found = view.read(first + at, count, to + at);
    if (found != to + at) std::copy(found, found + count, to + at);
  }
}
template <class T>
void write_numbers(const View& view, int64_t first, int64_t n, const T* values) {
  for (int64_t at = 0; at < n; at += kChunk) {
    const int64_t count = std::min(kChunk, n - at);
    T* out = view.target(first + at, const_cast<T*>(values) + at);
    if (out != values + at) std::copy(values + at, values + at + count, out);
    view.written(first + at, count, out);
  }
}

// One thread's buffers for the state and the score of a block.
template <class T>
class BlockBuffers {
 public:
  BlockBuffers(const Blocks& blocks, const TargetOf<T>& target, const Tensor& params)
      : target_(target),
        params_(static_cast<const T*>(params.numel() ? params.data_ptr() : nullptr)),
        param_count_(params.numel()),
        elements_(blocks.shape.elements),
        x_(blocks[0].count),
        score_(blocks[0].count),
        scratch_(target.scratch ? target.scratch(samples_of(blocks[0])) : 0) {
  }  // no block is larger than the first

  T* x() const { return x_.data(); }
  T* score() const { return score_.data(); }

  // Reads the block's samples.
  void read(const View& view, const Block& block) {
    samples_ = samples_of(block);
    samples_.scratch = scratch_.data();
    if (target_.prepare) target_.prepare(samples_);
    read_numbers(view, block.first, block.count, x());
  }

  // Makes the score at x, rounded to the precision of the tensor behind `view`. The last argument
  // is the step of a chain, which a closed-form target ignores.
  void make_score(const View& view, const Block& block, int64_t = 0) {
    target_.score(samples_, x(), score());
    view.round(block.count, score());
  }

  // Makes the score and the energies, one for each row of the block.
  void make_both(const View& view, const Block& block, T* room, double* energy) {
    target_.score_and_energy(samples_, x(), score(), room, energy);
    view.round(block.count, score());
  }

  // Writes `values`, one per element of the block, to the tensor from its flat index `first` on.
  void write(const View& view, int64_t first, const Block& block, const T* values) const {
    write_numbers(view, first, block.count, values);
  }

 private:
  Samples<T> samples_of(const Block& block) const {
    return {block.rows, block.width, block.element, elements_, params_, param_count_, nullptr};
  }

  const TargetOf<T>& target_;
  const T* params_;
  int64_t param_count_, elements_;
  Line<T> x_, score_, scratch_;
  Samples<T> samples_{};
};

}  // namespace pyebm
