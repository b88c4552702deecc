// The noise of a chunk of samples.
#pragma once

#include "sample_loop.h"

namespace pyebm {

// One thread's buffers for the normals of a chunk.
struct NoiseBuffer {
  Calls calls;
  alignas(64) float normals[kChunk];
  NoiseBuffer() {}

  // Tells which views the op reads and writes: their elements come into the cache while the noise is
  // made, half a chunk ahead, so that the last ones too have time to come, and two chunks need not
  // share the cache. No result depends on it.
  void will_need(const Chunk& chunk, std::initializer_list<const View*> read,
                 std::initializer_list<const View*> written) {
    calls.soon_count = 0;
    const int64_t n = chunk.rows * ((chunk.width + 3) / 4);
    const auto add = [&](const View& view, bool writes) {
      const int64_t bytes_a_call = (chunk.count * view.element_bytes() + n - 1) / n;
      if (const char* begin = view.memory(chunk.first + chunk.count / 2))
        calls.soon[calls.soon_count++] = {begin, bytes_a_call, writes};
    };
    for (const View* view : read) add(*view, false);
    for (const View* view : written) add(*view, true);
  }
};

// Stand for a chunk's normals where none need to be drawn, as they are multiplied by 0.
alignas(64) inline constexpr float kNoNormals[kChunk] = {};

// The name of the noise (pyebm/_schemas.py) and the normals it stands for.
class NoiseSource {
 public:
  NoiseSource(const std::optional<Tensor>& name, const std::optional<Tensor>& seeds,
              const std::optional<Tensor>& ids, const Shape& shape) {
    if (!name) fail("noise: a name must be given where there is no noise tensor");
    take(static_cast<const int64_t*>(name->data_ptr()));
    if (seeds) seeds_ = static_cast<const int64_t*>(seeds->data_ptr());
    if (ids) {
      ids_ = static_cast<const int64_t*>(ids->data_ptr());
      for (int64_t b = 0; b < shape.samples; ++b) word("sample_ids", ids_[b]);
    } else {
      require_samples(shape);
    }
  }

  NoiseSource(const int64_t* name, const Shape& shape) {
    take(name);
    require_samples(shape);
  }

  // The normals z for the chunk's elements, in their logical order; or the numbers that another
  // kernel makes of the same words.
  const float* fill(const Chunk& chunk, NoiseBuffer& buffer,
                    decltype(ChunkKernels::normals) draw = chunk_kernels().normals) const {
    if (unused_) return kNoNormals;
    lay_out(chunk, buffer.calls);
    return drawn(chunk, 0, buffer, draw);
  }

  // Writes the counters and keys of the chunk's Philox calls, except for the step.
  void lay_out(const Chunk& chunk, Calls& calls) const {
    const int64_t groups = (chunk.width + 3) / 4, first_group = chunk.element / 4;
    calls.stream = stream_;
    calls.same_group = groups == 1;
    calls.same_sample = chunk.rows == 1;
    calls.same_key = !seeds_ || chunk.rows == 1;
    calls.counting_up = calls.same_sample || (calls.same_group && !ids_ && !seeds_);
    calls.wanted = chunk.width <= 2 ? chunk.width : 4;
    const uint64_t seed = seeds_ ? static_cast<uint64_t>(seeds_[chunk.sample]) : seed_;
    calls.key0[0] = static_cast<uint32_t>(seed), calls.key1[0] = static_cast<uint32_t>(seed >> 32);
    calls.group[0] = static_cast<uint32_t>(first_group);
    calls.sample[0] = ids_ ? static_cast<uint32_t>(ids_[chunk.sample])
                           : first_sample_ + static_cast<uint32_t>(chunk.sample);
    if (calls.counting_up) return;
    // Calls word(sample, group) for every Philox call. Small samples have one call each, so a
    // single loop over the rows handles them.
    const auto lay = [&](uint32_t* words, auto word) {
      if (groups == 1) {
        for (int64_t row = 0; row < chunk.rows; ++row) words[row] = word(chunk.sample + row, first_group);
        return;
      }
      for (int64_t row = 0; row < chunk.rows; ++row) {
        for (int64_t g = 0; g < groups; ++g) *words++ = word(chunk.sample + row, first_group + g);
      }
    };
    if (!calls.same_group)
      lay(calls.group, [](int64_t, int64_t group) { return static_cast<uint32_t>(group); });
    if (ids_) {
      lay(calls.sample, [&](int64_t b, int64_t) { return static_cast<uint32_t>(ids_[b]); });
    } else {
      lay(calls.sample, [&](int64_t b, int64_t) { return first_sample_ + static_cast<uint32_t>(b); });
    }
    if (calls.same_key) return;
    lay(calls.key0, [&](int64_t b, int64_t) { return static_cast<uint32_t>(seeds_[b]); });
    lay(calls.key1,
        [&](int64_t b, int64_t) { return static_cast<uint32_t>(static_cast<uint64_t>(seeds_[b]) >> 32); });
  }

  // Draws the numbers of the calls that lay_out wrote, for the step `ahead` steps after the named
  // one.
  const float* drawn(const Chunk& chunk, int64_t ahead, NoiseBuffer& buffer,
                     decltype(ChunkKernels::normals) draw = chunk_kernels().normals) const {
    const int64_t groups = (chunk.width + 3) / 4, lanes = chunk.width <= 2 ? chunk.width : 4 * groups;
    buffer.calls.step = step_ + static_cast<uint32_t>(ahead);
    draw(buffer.calls, chunk.rows * groups, buffer.normals);
    if (lanes != chunk.width) close_up(chunk.rows, lanes, chunk.width, buffer.normals);
    return buffer.normals;
  }

  // Writes the numbers to `out` itself, if the kernel draws neither more than the chunk's elements
  // nor any between them. Returns whether it did.
  bool fill_in_place(const Chunk& chunk, NoiseBuffer& buffer, decltype(ChunkKernels::normals) draw,
                     float* out) const {
    if (chunk.width % 4 || chunk.count % (4 * kLeastCalls)) return false;
    lay_out(chunk, buffer.calls);
    buffer.calls.step = step_;
    draw(buffer.calls, chunk.count / 4, out);
    return true;
  }

  // Removes the gaps between samples. The first `width` of every `lanes` numbers belong to elements
  // and move up behind the sample before. Each copy moves four numbers; the next copy overwrites
  // those that are too many.
  static void close_up(int64_t rows, int64_t lanes, int64_t width, float* numbers) {
    for (int64_t row = 1; row < rows; ++row) {
      for (int64_t i = 0; i < lanes; i += 4) {
        float four[4];
        std::memcpy(four, numbers + row * lanes + i, sizeof four);
        std::memcpy(numbers + row * width + i, four, sizeof four);
      }
    }
  }

  // The same noise, for an op that multiplies it by this coefficient: if that is 0, `fill` draws
  // nothing.
  NoiseSource times(const Coefficient& coefficient) const {
    NoiseSource other = *this;
    other.unused_ = !coefficient.run() && coefficient[0] == 0;
    return other;
  }

  // The same noise, `further` streams after this one.
  NoiseSource on_stream(int64_t further) const {
    NoiseSource other = *this;
    other.stream_ = word("stream", static_cast<int64_t>(stream_) + further);
    return other;
  }

  // Checks that a chain, which counts on from the named step, stays below 2**32.
  void require_steps(int64_t n_steps) const {
    if (n_steps > (int64_t{1} << 32) - step_)
      fail("noise: steps must stay below 2**32, got ", step_, " and ", n_steps, " more");
  }

 private:
  void take(const int64_t* name) {
    seed_ = static_cast<uint64_t>(name[0]);
    first_sample_ = word("first_sample", name[1]);
    step_ = word("step", name[2]);
    stream_ = word("stream", name[3]);
  }
  void require_samples(const Shape& shape) const {
    if (shape.samples) word("sample ids", static_cast<int64_t>(first_sample_) + shape.samples - 1);
  }

  static uint32_t word(const char* name, int64_t value) {
    if (value < 0 || value > int64_t{0xFFFFFFFF})
      fail("noise: ", name, " must be in [0, 2**32), got ", value);
    return static_cast<uint32_t>(value);
  }

  uint64_t seed_;
  uint32_t first_sample_, step_, stream_;
  bool unused_ = false;
  const int64_t* seeds_ = nullptr;
  const int64_t* ids_ = nullptr;
};

}  // namespace pyebm
