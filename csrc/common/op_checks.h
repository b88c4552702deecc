// Every registered op checks its arguments here before it touches any memory: torch.ops.pyebm is as
// public as the functions above it. op_args.h says what each argument must be;
// pyebm/_op_checks.py makes the same checks for other backends.
#pragma once

#include "op_tensors.h"

namespace pyebm {

class OpChecks : OpTensors {
 public:
  explicit OpChecks(const char* op) : OpTensors(op) {}

  void samples(const char* name, const Tensor& tensor, Dtype dtype, int flags) {
    const Operand& x = look(name, tensor, dtype, flags | kLike);
    if (x.memory.dims == 0)
      fail(op_, ": ", name, " must have a first dimension of samples, got a 0-dim tensor");
    batch_ = x.memory.sizes[0];
    if (batch_ && x.count / batch_ > kMostElements) {
      fail(op_, ": ", name, " must have at most 2**34 elements a sample, got ", x.count / batch_);
    }
  }
  void like(const char* name, const Tensor& tensor, Dtype dtype, int flags) {
    require_like(look(name, tensor, dtype, flags | kLike));
  }
  void batch(const char* name, const Tensor& tensor, Dtype dtype, int flags) {
    require_batch(look(name, tensor, dtype, flags));
  }
  void name(const char* name, const Tensor& tensor, Dtype dtype, int flags) {
    const Operand& words = look(name, tensor, dtype, flags);
    if (words.memory.dims != 1 || words.count != 4) fail_shape(words, "must have shape (4,)");
  }
  void rows(const char* name, const Tensor& tensor, Dtype dtype, int flags) {
    const Operand& values = look(name, tensor, dtype, flags);
    const int64_t elements = x().count, count = values.count;
    if (values.memory.dims != 1 || (count ? elements % count : elements)) {
      fail(op_, ": ", name,
           " must have one value for all, or for each sample, token or element: a number of them that "
           "divides ",
           elements, ", got ", count, " in shape ", Listed{values.memory.sizes, values.memory.dims});
    }
  }
  void schedule(const char* name, const Tensor& tensor, Dtype dtype, int flags, std::optional<bool> per_step,
                int64_t n_steps) {
    const Operand& values = look(name, tensor, dtype, flags);
    const bool by_step = per_step.value_or(false);
    const int64_t expected = by_step ? n_steps : batch_;
    if (values.memory.dims != 1 || (values.count != 1 && values.count != expected)) {
      fail(op_, ": ", name, " must have one value, or one for each of ", expected,
           by_step ? " steps" : " samples", ", got shape ", Listed{values.memory.sizes, values.memory.dims});
    }
  }
  void above_rows(const char* name, const Tensor& tensor, Dtype dtype, int flags) {
    require_one_or_batch(look(name, tensor, dtype, flags));
  }
  void above(const char* name, const Tensor& tensor, Dtype dtype, int flags, int64_t reduction) {
    const Operand& values =
        look(name, tensor, reduction ? dtype : Dtype::kWork, reduction ? flags : flags | kLike);
    reduction ? require_one_or_batch(values) : require_like(values);
  }
  void loss(const char* name, const Tensor& tensor, Dtype dtype, int flags, int64_t reduction) {
    const Operand& values =
        look(name, tensor, reduction ? dtype : Dtype::kWork, reduction ? flags | kContiguous : flags | kLike);
    if (reduction == 0) {
      require_like(values);
    } else if (reduction == 1) {
      require_batch(values);
    } else if (values.count != 1) {
      fail_shape(values, "must have one element");
    }
  }
  void states(const char* name, const Tensor& tensor, Dtype dtype, int flags, int64_t n_steps,
              std::optional<int64_t> thin) {
    const Operand& kept = look(name, tensor, dtype, flags);
    const Memory& one = x().memory;
    bool fits = kept.memory.dims == one.dims + 1 && kept.memory.sizes[0] == n_steps / thin.value_or(1);
    for (int64_t d = 0; fits && d < one.dims; ++d) fits = kept.memory.sizes[d + 1] == one.sizes[d];
    if (!fits) fail_shape(kept, "must have shape (n_steps // thin, ...), ... being that of the samples");
  }
  void one(const char* name, const Tensor& tensor, Dtype dtype, int flags) {
    const Operand& value = look(name, tensor, dtype, flags);
    if (value.count != 1) fail_shape(value, "must have one element");
  }
  void flat(const char* name, const Tensor& tensor, Dtype dtype, int flags) {
    const Operand& values = look(name, tensor, dtype, flags);
    if (values.memory.dims != 1) fail_shape(values, "must have one dimension");
  }
  void table(const char* name, const Tensor& tensor, Dtype dtype, int flags) {
    const Operand& values = look(name, tensor, dtype, flags);
    if (values.memory.dims != 2) fail_shape(values, "must have two dimensions");
  }
  void between(const char* name, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value < high) return;
    if (high == INT64_MAX) fail(op_, ": ", name, " must be >= ", low, ", got ", value);
    fail(op_, ": ", name, " must be in [", low, ", ", high, "), got ", value);
  }
  void between(const char* name, std::optional<int64_t> value, int64_t low, int64_t high) {
    if (value) between(name, *value, low, high);
  }
  void number(const char* name, double value, bool fits, const char* expected) {
    if (!fits) fail(op_, ": ", name, " must be ", expected, ", got ", value);
  }
  void number(const char* name, std::optional<double> value, bool fits, const char* expected) {
    if (value) number(name, *value, fits, expected);
  }
  void limit(const char* name, std::optional<double> value, bool positive) {
    if (value && *value != *value) fail(op_, ": ", name, " must not be NaN");
    if (value && positive && *value <= 0) fail(op_, ": ", name, " must be > 0, got ", *value);
  }
  void at_least(const char* name, std::optional<double> value, const char* other,
                std::optional<double> least) {
    if (value && least && *value < *least)
      fail(op_, ": ", name, " must be >= ", other, ", ", *least, ", got ", *value);
  }
  void together(const char* name, bool given, const char* other, bool other_given) {
    if (given != other_given) fail(op_, ": ", name, " and ", other, " must both be given, or neither");
  }

  // An optional tensor is checked only where the caller gave one.
#define PYEBM_WHERE_GIVEN(check)                                                                         \
  template <class... More>                                                                               \
  void check(const char* name, const MaybeTensor& tensor, Dtype dtype, int flags, const More&... more) { \
    if (tensor) this->check(name, *tensor, dtype, flags, more...);                                       \
  }
  PYEBM_WHERE_GIVEN(like)
  PYEBM_WHERE_GIVEN(batch)
  PYEBM_WHERE_GIVEN(name)
  PYEBM_WHERE_GIVEN(rows)
  PYEBM_WHERE_GIVEN(schedule)
  PYEBM_WHERE_GIVEN(above_rows)
  PYEBM_WHERE_GIVEN(states)
  PYEBM_WHERE_GIVEN(flat)
  PYEBM_WHERE_GIVEN(table)
#undef PYEBM_WHERE_GIVEN

  using OpTensors::overlaps;

 private:
  // The counter holds the element's index div 4 in 32 bits.
  static constexpr int64_t kMostElements = int64_t{1} << 34;

  void require_like(const Operand& it) const {
    const Memory& like = x().memory;
    bool same = it.memory.dims == like.dims;
    for (int64_t d = 0; same && d < like.dims; ++d) same = it.memory.sizes[d] == like.sizes[d];
    if (!same) {
      fail(op_, ": ", it.name, " must have ", x().name, "'s shape ", Listed{like.sizes, like.dims}, ", got ",
           Listed{it.memory.sizes, it.memory.dims});
    }
  }
  void require_batch(const Operand& it) const {
    if (it.memory.dims != 1 || it.count != batch_) {
      fail(op_, ": ", it.name, " must have one value for each of ", batch_, " samples, got shape ",
           Listed{it.memory.sizes, it.memory.dims});
    }
  }
  void require_one_or_batch(const Operand& it) const {
    if (it.count != 1 && (it.memory.dims != 1 || it.count != batch_)) {
      fail(op_, ": ", it.name, " must have one value, or one for each of ", batch_, " samples, got shape ",
           Listed{it.memory.sizes, it.memory.dims});
    }
  }
  [[noreturn]] void fail_shape(const Operand& it, const char* expected) const {
    fail(op_, ": ", it.name, " ", expected, ", got shape ", Listed{it.memory.sizes, it.memory.dims});
  }

  int64_t batch_ = 0;
};

// Torch calls this function for an op: it unpacks the arguments, checks them, and runs the op.
template <class Op, void (*run)(const typename Op::Args&)>
void checked(StableIValue* stack, uint64_t count, uint64_t) {
  using Args = typename Op::Args;
  if (count != Args::kCount)
    fail(Op::kName, ": the library is of another version than the schema, which has ", count, " arguments");
  const Args args(stack);
  OpChecks checks(Op::kName);
  args.check(checks);
  checks.overlaps();
  run(args);
}

// The function that torch calls for an op, for callers that go around torch's dispatcher.
template <class Op>
inline void (*entry_of)(StableIValue* stack, uint64_t count, uint64_t results) = nullptr;

}  // namespace pyebm

// Registers the function pyebm::name, behind its checks, as the op `name`.
#define PYEBM_IMPL(module, name) \
  module.impl(#name, pyebm::entry_of<pyebm::op::name> = &pyebm::checked<pyebm::op::name, pyebm::name>)
