// The Python module pyebm._C: each function takes a public call's own arguments and runs the call
// in one step, around Python and around torch's dispatcher, which take longer than a small kernel.
// It takes plain calls alone (pyebm/_small_calls.py says which they are), and raises nothing: for
// any other call, and for one that the op's checks refuse, it returns None. Some systems have
// Python.h in a package of its own; without it every call goes through Python.
#if __has_include(<Python.h>)
#include "objects.h"

namespace pyebm {
namespace {

// The name of a noise: its four numbers as the ops take them.
PyObject* name_tensor(PyObject*, PyObject* const* given, Py_ssize_t count, PyObject* keywords) {
  return or_none([&]() -> PyObject* {
    PyObject* of[4];
    if (!place({"seed", "first_sample", "step", "stream"}, 4, 0, given, count, keywords, of) || watched())
      return nullptr;
    int64_t words[4];
    for (int k = 0; k < 4; ++k) {
      if (!of[k] || !PyLong_CheckExact(of[k])) return nullptr;
      words[k] = PyLong_AsLongLong(of[k]);
      if (words[k] == -1 && PyErr_Occurred()) return nullptr;
    }
    const int64_t size = 4, stride = 1;
    const Tensor name = empty(1, &size, &stride, ScalarType::Long);
    std::memcpy(name.data_ptr(), words, sizeof words);
    return handed(name);
  });
}

template <class Op>
PyObject* drawn(PyObject*, PyObject* const* given, Py_ssize_t count, PyObject* keywords) {
  return or_none([&]() -> PyObject* {
    PyObject* of[5];
    if (!place({"self", "shape", "dtype", "device", "backend"}, 2, 1, given, count, keywords, of))
      return nullptr;
    const auto [self, shape, dtype, device, _] = of;
    if (!shape || !PyTuple_Check(shape) || watched()) return nullptr;
    const bool is_double = dtype == known[kFloat64];
    if (dtype && !is_double && dtype != known[kFloat32]) return nullptr;
    if (device && PyObject_RichCompareBool(device, known[kCpu], Py_EQ) != 1 &&
        !(PyUnicode_CheckExact(device) && PyUnicode_CompareWithASCIIString(device, "cpu") == 0))
      return nullptr;
    int64_t sizes[kMostDims], strides[kMostDims], elements = 1;
    const Py_ssize_t dims = PyTuple_Size(shape);
    if (dims == 0 || dims > kMostDims) return nullptr;
    for (Py_ssize_t d = dims - 1; d >= 0; --d) {
      PyObject* size = PyTuple_GetItem(shape, d);
      if (!PyLong_CheckExact(size)) return nullptr;
      sizes[d] = PyLong_AsLongLong(size), strides[d] = elements;
      if (sizes[d] < 1 || sizes[d] > kMostElements / elements) return nullptr;
      elements *= sizes[d];
    }
    const MaybeTensor name = name_of(self);
    if (!name) return nullptr;
    const Tensor out = empty(dims, sizes, strides, is_double ? ScalarType::Double : ScalarType::Float);
    run<Op>(out, *name, kNone, kNone);
    return handed(out);
  });
}

PyObject* perturb(PyObject*, PyObject* const* given, Py_ssize_t count, PyObject* keywords) {
  return or_none([&]() -> PyObject* {
    PyObject* of[5];
    if (!place({"x", "sigma", "noise", "alpha", "backend"}, 3, 1, given, count, keywords, of) || watched())
      return nullptr;
    const MaybeTensor x = samples(of[0]), name = name_of(of[2]);
    if (!x || !name) return nullptr;
    const Given sigma(of[1], *x), alpha(of[3] ? of[3] : one, *x);
    if (!sigma.plain || !alpha.plain) return nullptr;
    const Tensor out = like(*x);
    run<op::perturb>(out, *x, alpha.number, sigma.number, *name, alpha.rows, sigma.rows, kNone, kNone);
    return handed(out);
  });
}

template <class Op, class... Coefficients>
PyObject* step(bool in_place, PyObject* x, PyObject* slope, PyObject* noise, Coefficients*... coefficients) {
  if (watched()) return nullptr;
  const MaybeTensor state = samples(x), score = samples(slope), name = name_of(noise), nothing;
  if (!state || !score || !name || score->scalar_type() != state->scalar_type()) return nullptr;
  const auto run_with = [&](const auto&... of) -> PyObject* {
    if (!(of.plain && ...)) return nullptr;
    // Autograd should notice if it had saved x. This may fail, and so comes first: once x is
    // written, Python must not take the step again.
    if (in_place && !Held(PyObject_CallFunctionObjArgs(known[kWritten], x, nullptr)).get()) return nullptr;
    const Tensor out = in_place ? *state : like(*state);
    const std::optional<double> none;
    run<Op>(out, in_place ? nothing : state, *score, of.number..., *name, of.rows..., kNone, kNone, none,
            none, none, kNone, kNone);
    if (!in_place) return handed(out);
    Py_INCREF(x);
    return x;
  };
  return run_with(Given(coefficients, *state)...);
}

template <bool kInPlace>
PyObject* langevin_step(PyObject*, PyObject* const* given, Py_ssize_t count, PyObject* keywords) {
  return or_none([&]() -> PyObject* {
    PyObject* of[9];
    if (!place({"x", "score", "step_size", "noise", "temperature", "clamp", "score_clip", "mask", "backend"},
               4, 4, given, count, keywords, of))
      return nullptr;
    return step<op::langevin_step>(kInPlace, of[0], of[1], of[3], of[2], of[4] ? of[4] : one);
  });
}

PyObject* affine_step(PyObject*, PyObject* const* given, Py_ssize_t count, PyObject* keywords) {
  return or_none([&]() -> PyObject* {
    PyObject* of[9];
    if (!place({"x", "g", "a", "b", "c", "noise", "clamp", "mask", "backend"}, 6, 3, given, count, keywords,
               of))
      return nullptr;
    return step<op::affine_step>(false, of[0], of[1], of[5], of[2], of[3], of[4]);
  });
}

// Takes the objects of Known, in their order. False where Python's files are of another version.
PyObject* prepare(PyObject*, PyObject* const* given, Py_ssize_t count) {
  if (count != kAll) Py_RETURN_FALSE;
  of_name = PyUnicode_InternFromString("_name"), of_seeds = PyUnicode_InternFromString("_seeds");
  of_ids = PyUnicode_InternFromString("_ids"), of_level = PyUnicode_InternFromString("_current_level");
  of_requires_grad = PyUnicode_InternFromString("requires_grad");
  one = PyFloat_FromDouble(1.0);
  if (!one || !of_name || !of_seeds || !of_ids || !of_level || !of_requires_grad) return nullptr;
  for (int k = kAll - 1; k >= 0; --k) Py_INCREF(known[k] = given[k]);
  Py_RETURN_TRUE;
}

template <class Function>
PyMethodDef method(const char* name, Function* function, int more = METH_KEYWORDS) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(function)), METH_FASTCALL | more,
          nullptr};
}
PyMethodDef methods[] = {method("prepare", prepare, 0),
                         method("name_tensor", name_tensor),
                         method("randn", drawn<op::normal_>),
                         method("rand", drawn<op::uniform_>),
                         method("perturb", perturb),
                         method("langevin_step", langevin_step<false>),
                         method("langevin_step_", langevin_step<true>),
                         method("affine_step", affine_step),
                         {nullptr, nullptr, 0, nullptr}};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace pyebm

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&pyebm::module); }
#endif
