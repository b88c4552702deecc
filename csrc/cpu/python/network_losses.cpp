// A network's loss in one step: the parameters one after another, new tensors for the results, and
// the op's pass over the batch, behind the op's own checks.
#if __has_include(<Python.h>)
#include "network_losses.h"

#include <vector>

#include "../loops/network_pack.h"

namespace pyebm {
namespace {

constexpr int64_t kOfX = 1, kOfParams = 4;
constexpr int kNumbers = 4, kTensorsOfTerms = 7, kTerms = kNumbers + 1 + kTensorsOfTerms;

// Lets other threads of Python run.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  Unlocked(const Unlocked&) = delete;
  ~Unlocked() { PyEval_RestoreThread(state_); }

 private:
  PyThreadState* state_;
};

// A tensor that no derivative follows, as the op takes it, or None.
struct Optional {
  MaybeTensor tensor;
  bool plain = true;

  explicit Optional(PyObject* object) {
    if (object == Py_None) return;
    tensor = readable(object);
    plain = tensor.has_value() && (!aoti_torch_grad_mode_is_enabled() ||
                                   Held(PyObject_GetAttr(object, of_requires_grad)).is(Py_False));
  }
};

Tensor row(int64_t size, ScalarType type) {
  const int64_t stride = 1;
  return empty(1, &size, &stride, type);
}

// The parameters, one after another in a new tensor; none unless all lie in memory, in one dtype.
// Python has made sure that they are contiguous and on the CPU.
MaybeTensor packed(PyObject* parts) {
  const Py_ssize_t count = PyList_Size(parts);
  std::vector<Tensor> tensors;
  std::vector<const void*> memory;
  std::vector<int64_t> bytes;
  int64_t total = 0;
  for (Py_ssize_t k = 0; k < count; ++k) {
    const MaybeTensor part = behind(PyList_GetItem(parts, k));
    if (!part) return {};
    const Tensor& own = tensors.emplace_back(*part);
    const int64_t item = static_cast<int64_t>(own.element_size());
    int64_t offset, available;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_offset(own.get(), &offset));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(own.get(), &available));
    if (own.scalar_type() != tensors.front().scalar_type() || (offset + own.numel()) * item > available)
      return {};
    memory.push_back(own.data_ptr());
    bytes.push_back(own.numel() * item);
    total += own.numel();
  }
  if (tensors.empty()) return {};
  const Tensor out = row(total, tensors.front().scalar_type());
  pack(memory.data(), bytes.data(), count, static_cast<char*>(out.data_ptr()));
  return out;
}

PyObject* handed(const MaybeTensor& tensor) {
  if (tensor) return pyebm::handed(*tensor);
  Py_RETURN_NONE;
}

}  // namespace

PyObject* packed(PyObject*, PyObject* const* given, Py_ssize_t count) {
  return or_none([&]() -> PyObject* {
    if (count != 1 || !known[kTensor] || !PyList_CheckExact(given[0]) || watched()) return nullptr;
    const MaybeTensor params = packed(given[0]);
    return params ? pyebm::handed(*params) : nullptr;
  });
}

PyObject* network_loss(PyObject*, PyObject* const* given, Py_ssize_t count) {
  return or_none([&]() -> PyObject* {
    if (count != 8 || !known[kTensor] || watched()) return nullptr;
    PyObject *const parts = given[2], *const terms = given[3];
    if (!PyList_CheckExact(parts) || PyTuple_Size(terms) != kTerms) return nullptr;
    double number[kNumbers];
    for (int k = 0; k < kNumbers; ++k) number[k] = PyFloat_AsDouble(PyTuple_GetItem(terms, k));
    const bool along = PyTuple_GetItem(terms, kNumbers) == Py_True;
    const bool of_energy = given[4] == Py_True, by_sample = given[5] == Py_True;
    const int64_t wanted = PyLong_AsLongLong(given[7]);
    if (PyErr_Occurred()) return nullptr;

    const MaybeTensor x = readable(given[0]), layout = readable(given[1]);
    const Optional losses(given[6]);
    std::vector<Optional> of;
    for (int k = kNumbers + 1; k < kTerms; ++k) of.emplace_back(PyTuple_GetItem(terms, k));
    for (const Optional& one : of) {
      if (!one.plain) return nullptr;
    }
    if (!x || x->dim() == 0 || !x->is_contiguous() || !layout || !losses.plain) return nullptr;
    // In half precision a gradient by x would be rounded before the caller's factor comes to it.
    if ((wanted & kOfX) && x->element_size() == 2) return nullptr;
    const MaybeTensor params = packed(parts);
    if (!params) return nullptr;

    const auto like_if = [&](int64_t which, const MaybeTensor& tensor) {
      return (wanted & which) && !by_sample ? MaybeTensor(like(*tensor)) : MaybeTensor();
    };
    const MaybeTensor grad_x = like_if(kOfX, x), grad = like_if(kOfParams, params);
    const ScalarType type = params->scalar_type();
    const Tensor loss = losses.tensor ? *losses.tensor
                        : by_sample   ? row(x->size(0), type)
                                      : empty(0, nullptr, nullptr, type);
    {
      const Unlocked during;
      run<op::network_loss>(loss, grad, *x, *layout, *params, of_energy, number[0], number[1], number[2],
                            number[3], along, of[0].tensor, of[1].tensor, of[2].tensor, of[3].tensor,
                            of[4].tensor, of[5].tensor, of[6].tensor, kNone, kNone, grad_x);
    }
    return Py_BuildValue("(NNNON)", handed(loss), handed(params), handed(grad_x), Py_None, handed(grad));
  });
}

PyObject* parts_of(PyObject*, PyObject* const* given, Py_ssize_t count) {
  return or_none([&]() -> PyObject* {
    if (count != 3 || !known[kTensor] || watched()) return nullptr;
    const MaybeTensor grad = behind(given[0]);
    const Py_ssize_t parts = PyTuple_Size(given[1]);
    if (!grad || PyTuple_Size(given[2]) != parts) return nullptr;
    const Held made(PyList_New(parts));
    if (!made.get()) return nullptr;
    for (Py_ssize_t k = 0; k < parts; ++k) {
      PyObject* part = Py_None;
      if (PyTuple_GetItem(given[2], k) == Py_True) {
        PyObject* place = PyTuple_GetItem(given[1], k);
        PyObject *const sizes = PyTuple_GetItem(place, 0), *const strides = PyTuple_GetItem(place, 1);
        int64_t size[2], stride[2];
        const Py_ssize_t dims = PyTuple_Size(sizes);
        if (dims > 2) return nullptr;
        for (Py_ssize_t d = 0; d < dims; ++d) {
          size[d] = PyLong_AsLongLong(PyTuple_GetItem(sizes, d));
          stride[d] = PyLong_AsLongLong(PyTuple_GetItem(strides, d));
        }
        const int64_t first = PyLong_AsLongLong(PyTuple_GetItem(place, 2));
        if (PyErr_Occurred()) return nullptr;
        AtenTensorHandle view;
        TORCH_ERROR_CODE_CHECK(aoti_torch__reinterpret_tensor(grad->get(), dims, size, stride, first, &view));
        part = pyebm::handed(Tensor(view));
        if (!part) return nullptr;
      } else {
        Py_INCREF(part);
      }
      PyList_SetItem(made.get(), k, part);
    }
    return Py_NewRef(made.get());
  });
}

}  // namespace pyebm
#endif
