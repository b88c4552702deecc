// Python's objects as the ops take them, and results for Python, in the limited C API. Everything
// here is for one thread at a time, the one that holds Python's lock.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <algorithm>

#include "../loops/chunk_noise.h"

namespace pyebm {

// The elements of a small call. More may be worth a second thread, and take longer than this saves.
constexpr int64_t kMostElements = kGrain * kChunk;
constexpr int64_t kMostDims = 8;

// What prepare() is given, in this order. The last ones are functions that count or name what wants
// to see every op: modes, transforms, tracers, profilers.
enum Known {
  kTensor,
  kNoise,
  kFloat32,
  kFloat64,
  kCpu,
  kHandleOf,
  kTensorOf,
  kIsNeg,
  kNewVersion,
  kForwardAd,
  kWatching
};
constexpr int kWatchers = 5, kAll = kWatching + kWatchers;
inline PyObject* known[kAll];
inline PyObject *one, *minus_one, *zero, *of_mean, *of_batchmean, *of_name, *of_seeds, *of_ids,
    *of_requires_grad, *of_level;
// What prepare_losses() is given: the codes of the reductions, the ops, and the function that makes
// autograd's node.
inline PyObject *reductions, *kernels, *node_of;

// A reference to an object; null after an error in Python.
class Held {
 public:
  explicit Held(PyObject* object) : object_(object) {}
  Held(const Held&) = delete;
  ~Held() { Py_XDECREF(object_); }
  PyObject* get() const { return object_; }
  bool is(PyObject* other) const { return object_ == other; }

 private:
  PyObject* object_;
};

inline bool is_of(PyObject* object, Known type) {
  return object && Py_TYPE(object) == reinterpret_cast<PyTypeObject*>(known[type]);
}

inline bool watched() {
  PyObject* level = PyDict_GetItemWithError(known[kForwardAd], of_level);
  if (!level || PyLong_AsLong(level) >= 0) return true;
  for (int k = kWatching; k < kAll; ++k) {
    const Held answer(PyObject_CallNoArgs(known[k]));
    if (!answer.get() || PyObject_IsTrue(answer.get())) return true;
  }
  return false;
}

// Places the call's arguments in the order of `names`. The first `positional` may come without their
// names, and the last `options` only as None; one that does not come is null. False for other calls.
template <size_t kCount>
bool place(const char* const (&names)[kCount], size_t positional, size_t options, PyObject* const* given,
           Py_ssize_t count, PyObject* keywords, PyObject* (&placed)[kCount]) {
  if (!known[kTensor] || count > static_cast<Py_ssize_t>(positional)) return false;
  std::copy(given, given + count, placed);
  std::fill(placed + count, placed + kCount, nullptr);
  const Py_ssize_t named = keywords ? PyTuple_Size(keywords) : 0;
  for (Py_ssize_t k = 0; k < named; ++k) {
    size_t at = 0;
    while (at < kCount && PyUnicode_CompareWithASCIIString(PyTuple_GetItem(keywords, k), names[at])) ++at;
    if (at == kCount || placed[at] || (at >= kCount - options && given[count + k] != Py_None)) return false;
    placed[at] = given[count + k];
  }
  return true;
}

// The tensor behind one of Python's, of whatever type.
inline MaybeTensor behind(PyObject* tensor) {
  const Held capsule(PyObject_CallFunctionObjArgs(known[kHandleOf], tensor, nullptr));
  void* handle = capsule.get() ? PyCapsule_GetPointer(capsule.get(), nullptr) : nullptr;
  return handle ? MaybeTensor(Tensor(static_cast<AtenTensorHandle>(handle))) : MaybeTensor();
}

inline MaybeTensor taken(PyObject* tensor) { return is_of(tensor, kTensor) ? behind(tensor) : MaybeTensor(); }

// The tensor for Python. Torch's function leaves the handle to its caller, as Python made sure.
inline PyObject* handed(const Tensor& tensor) {
  const Held capsule(PyCapsule_New(tensor.get(), nullptr, nullptr));
  return capsule.get() ? PyObject_CallFunctionObjArgs(known[kTensorOf], capsule.get(), nullptr) : nullptr;
}

// A tensor on the CPU whose memory has all of its numbers; torch may keep a minus sign beside it.
inline MaybeTensor readable(PyObject* tensor) {
  MaybeTensor found = taken(tensor);
  if (!found || !found->is_cpu()) return {};
  const bool whole = Held(PyObject_CallFunctionObjArgs(known[kIsNeg], tensor, nullptr)).is(Py_False);
  return whole ? found : MaybeTensor();
}

// The tensors that name a noise to the ops; `name` is missing where the steps don't take the noise.
struct Named {
  MaybeTensor name, seeds, ids;

  explicit Named(PyObject* noise) {
    if (!is_of(noise, kNoise) || !one_of_each(noise, of_seeds, seeds) || !one_of_each(noise, of_ids, ids))
      return;
    const Held own(PyObject_GetAttr(noise, of_name));
    name = taken(own.get());
  }
  explicit operator bool() const { return name.has_value(); }

 private:
  static bool one_of_each(PyObject* noise, PyObject* attribute, MaybeTensor& to) {
    const Held given(PyObject_GetAttr(noise, attribute));
    if (given.is(Py_None)) return true;
    to = readable(given.get());
    return to.has_value();
  }
};

// A tensor of numbers on the CPU. Says whether autograd follows it; without `followed` none may be.
inline MaybeTensor numbers(PyObject* tensor, bool* followed = nullptr) {
  MaybeTensor found = readable(tensor);
  if (!found) return {};
  const ScalarType type = found->scalar_type();
  if (type != ScalarType::Float && type != ScalarType::Double) return {};
  const bool constant =
      !aoti_torch_grad_mode_is_enabled() || Held(PyObject_GetAttr(tensor, of_requires_grad)).is(Py_False);
  if (followed) *followed = !constant;
  return constant || followed ? found : MaybeTensor();
}

inline MaybeTensor samples(PyObject* tensor, bool* followed = nullptr) {
  MaybeTensor found = numbers(tensor, followed);
  if (!found || found->dim() == 0 || !found->is_contiguous()) return {};
  const int64_t count = found->numel();
  return 0 < count && count <= kMostElements ? found : MaybeTensor();
}

inline Tensor empty(int64_t dims, const int64_t* sizes, const int64_t* strides, ScalarType type) {
  AtenTensorHandle made;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dims, sizes, strides, static_cast<int32_t>(type),
                                                  aoti_torch_device_type_cpu(), 0, &made));
  return Tensor(made);
}

inline Tensor like(const Tensor& x) {
  int64_t *sizes, *strides;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_sizes(x.get(), &sizes));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_strides(x.get(), &strides));
  return empty(x.dim(), sizes, strides, x.scalar_type());
}

// A coefficient of x: a number, or a tensor of one value per sample.
struct Given {
  double number = NAN;
  MaybeTensor rows;
  bool plain;

  Given(PyObject* value, const Tensor& x) {
    if (!value) {
      plain = false;
    } else if (PyFloat_CheckExact(value) || PyLong_CheckExact(value)) {
      number = PyFloat_AsDouble(value);
      plain = !PyErr_Occurred();
    } else {
      rows = numbers(value);
      plain = rows && rows->dim() == 1 && (rows->numel() == 1 || rows->numel() == x.size(0));
    }
  }
};

// Runs the op behind its checks.
template <class Op, class... Values>
void run(const Values&... values) {
  static_assert(sizeof...(values) == Op::Args::kCount);
  StableIValue stack[] = {torch::stable::detail::from(values)...};
  entry_of<Op>(stack, sizeof...(values), 0);
}

inline const MaybeTensor kNone;

// An exception that is set in Python, and is for the caller.
struct Raised {};

// The result of make(), or None where that is null or another exception.
template <class Make>
PyObject* or_none(Make make) {
  PyObject* made = nullptr;
  try {
    made = make();
  } catch (const Raised&) {
    return nullptr;
  } catch (...) {  // from torch or from the op; Python's own way meets it again
  }
  if (made) return made;
  PyErr_Clear();
  Py_RETURN_NONE;
}

}  // namespace pyebm
