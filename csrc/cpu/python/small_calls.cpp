// The Python module pyebm._C: each function takes a public call's own arguments and runs the call
// in one step, around Python and around torch's dispatcher, which take longer than a small kernel.
// It takes plain calls alone (pyebm/_small_calls.py says which they are), and raises nothing of its
// own: for any other call, and for one that the op's checks refuse, it returns None. Some systems have
// Python.h in a package of its own; without it every call goes through Python.
#if __has_include(<Python.h>)
#include "network_losses.h"

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

// The uniforms as signs, in place: 1 where one is at most 1/2, else -1.
template <class T>
void as_signs(T* u, int64_t count) {
  std::transform(u, u + count, u, [](T one) { return one <= T(0.5) ? T(1) : T(-1); });
}

template <class Op, bool kSigns = false>
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
    const Named name(self);
    if (!name) return nullptr;
    const Tensor out = empty(dims, sizes, strides, is_double ? ScalarType::Double : ScalarType::Float);
    run<Op>(out, *name.name, name.seeds, name.ids);
    if (kSigns && is_double) as_signs(static_cast<double*>(out.data_ptr()), elements);
    if (kSigns && !is_double) as_signs(static_cast<float*>(out.data_ptr()), elements);
    return handed(out);
  });
}

PyObject* perturb(PyObject*, PyObject* const* given, Py_ssize_t count, PyObject* keywords) {
  return or_none([&]() -> PyObject* {
    PyObject* of[5];
    if (!place({"x", "sigma", "noise", "alpha", "backend"}, 3, 1, given, count, keywords, of) || watched())
      return nullptr;
    const MaybeTensor x = samples(of[0]);
    const Named name(of[2]);
    if (!x || !name) return nullptr;
    const Given sigma(of[1], *x), alpha(of[3] ? of[3] : one, *x);
    if (!sigma.plain || !alpha.plain) return nullptr;
    const Tensor out = like(*x);
    run<op::perturb>(out, *x, alpha.number, sigma.number, *name.name, alpha.rows, sigma.rows, name.seeds,
                     name.ids);
    return handed(out);
  });
}

template <class Op, class... Coefficients>
PyObject* step(bool in_place, PyObject* x, PyObject* slope, PyObject* noise, Coefficients*... coefficients) {
  if (watched()) return nullptr;
  const MaybeTensor state = samples(x), score = samples(slope), nothing;
  const Named name(noise);
  if (!state || !score || !name || score->scalar_type() != state->scalar_type()) return nullptr;
  const auto run_with = [&](const auto&... of) -> PyObject* {
    if (!(of.plain && ...)) return nullptr;
    // Autograd should notice if it had saved x. This may fail, and so comes first: once x is
    // written, Python must not take the step again.
    if (in_place && !Held(PyObject_CallFunctionObjArgs(known[kNewVersion], x, nullptr)).get()) return nullptr;
    const Tensor out = in_place ? *state : like(*state);
    const std::optional<double> none;
    run<Op>(out, in_place ? nothing : state, *score, of.number..., *name.name, of.rows..., kNone, kNone, none,
            none, none, name.seeds, name.ids);
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

// The numbers and the tensors of a loss (pyebm/losses/denoising.py has the formula). What the caller
// left out is null.
struct LossArguments {
  PyObject *pred, *noise, *kappa, *lam, *mu, *weight, *x0, *reduction;
  double factor;
  bool over_kappa2, kappa_positive;
};

// The loss, and where autograd follows, its gradient in the same pass, for the node.
PyObject* loss_of(const LossArguments& of) {
  PyObject* reduction = node_of ? PyDict_GetItemWithError(reductions, of.reduction) : nullptr;
  const int64_t code = reduction ? PyLong_AsLongLong(reduction) : 0;
  constexpr int64_t kFirstOfAll = 2;  // the reductions before it have more than one loss
  if (code < kFirstOfAll || watched()) return nullptr;
  bool followed = false;
  const MaybeTensor pred = samples(of.pred, &followed);
  const Named name(of.noise);
  const MaybeTensor x0 = of.x0 ? samples(of.x0) : MaybeTensor();
  if (!pred || !name || (of.x0 && (!x0 || x0->scalar_type() != pred->scalar_type()))) return nullptr;
  const Given kappa(of.kappa, *pred), lam(of.lam, *pred), mu(of.mu, *pred), weight(of.weight, *pred);
  if (!kappa.plain || !lam.plain || !mu.plain || !weight.plain) return nullptr;
  if (!x0 && mu.number != 0) return nullptr;  // NaN, where mu is a tensor, is not 0
  const int64_t no_size = 0;
  const Tensor loss = empty(0, &no_size, &no_size, pred->scalar_type());
  const MaybeTensor grad = followed ? MaybeTensor(like(*pred)) : MaybeTensor();
  const std::optional<bool> positive = of.kappa_positive ? std::optional(true) : std::nullopt;
  run<op::denoising_loss>(loss, grad, *pred, kappa.number, lam.number, mu.number, weight.number, of.factor,
                          of.over_kappa2, code, name.name, kappa.rows, lam.rows, mu.rows, weight.rows, kNone,
                          x0, name.seeds, name.ids, positive);
  if (!followed) return handed(loss);
  const auto rows = [](const Given& given, PyObject* object) { return given.rows ? object : Py_None; };
  const Held head(Py_BuildValue("(dddddOLN)", kappa.number, lam.number, mu.number, weight.number, of.factor,
                                of.over_kappa2 ? Py_True : Py_False, static_cast<long long>(code),
                                PyObject_GetAttr(of.noise, of_name)));
  const Held seeds(PyObject_GetAttr(of.noise, of_seeds)), ids(PyObject_GetAttr(of.noise, of_ids));
  const Held tail(PyTuple_Pack(9, rows(kappa, of.kappa), rows(lam, of.lam), rows(mu, of.mu),
                               rows(weight, of.weight), Py_None, of.x0 ? of.x0 : Py_None, seeds.get(),
                               ids.get(), Py_None));
  const Held made(Py_BuildValue("(NN)", handed(loss), handed(*grad)));
  if (!head.get() || !tail.get() || !made.get()) return nullptr;
  // Hooks on what the node saves may raise: activation checkpointing stops the forward pass so.
  PyObject* result =
      PyObject_CallFunctionObjArgs(node_of, of.pred, kernels, head.get(), tail.get(), made.get(), nullptr);
  if (!result) throw Raised();
  return result;
}

PyObject* dsm_loss(PyObject*, PyObject* const* given, Py_ssize_t count, PyObject* keywords) {
  return or_none([&]() -> PyObject* {
    PyObject* of[6];
    if (!place({"score", "sigma", "noise", "weight", "reduction", "backend"}, 3, 1, given, count, keywords,
               of))
      return nullptr;
    const auto [score, sigma, noise, weight, reduction, _] = of;
    if (!score || !noise) return nullptr;
    const bool by_name = weight && PyUnicode_CheckExact(weight);
    if (by_name && PyUnicode_CompareWithASCIIString(weight, "sigma2")) return nullptr;
    PyObject* by = !weight || weight == Py_None || by_name ? one : weight;
    return loss_of({score, noise, sigma, one, zero, by, nullptr, reduction ? reduction : of_batchmean, 0.5,
                    !by_name, by_name});
  });
}

PyObject* denoising_loss(PyObject*, PyObject* const* given, Py_ssize_t count, PyObject* keywords) {
  return or_none([&]() -> PyObject* {
    PyObject* of[10];
    if (!place({"pred", "noise", "kappa", "lam", "mu", "x0", "weight", "half", "reduction", "backend"}, 2, 1,
               given, count, keywords, of))
      return nullptr;
    const auto [pred, noise, kappa, lam, mu, x0, weight, half, reduction, _] = of;
    if (!pred || !noise || (half && !PyBool_Check(half))) return nullptr;
    return loss_of({pred, noise, kappa ? kappa : one, lam ? lam : minus_one, mu ? mu : zero,
                    !weight || weight == Py_None ? one : weight, x0 == Py_None ? nullptr : x0,
                    reduction ? reduction : of_mean, half == Py_True ? 0.5 : 1.0, false, false});
  });
}

// Takes the objects of Known, in their order. False where Python's files are of another version.
PyObject* prepare(PyObject*, PyObject* const* given, Py_ssize_t count) {
  if (count != kAll) Py_RETURN_FALSE;
  of_name = PyUnicode_InternFromString("_name"), of_seeds = PyUnicode_InternFromString("_seeds");
  of_ids = PyUnicode_InternFromString("_ids"), of_level = PyUnicode_InternFromString("_current_level");
  of_requires_grad = PyUnicode_InternFromString("requires_grad");
  of_mean = PyUnicode_InternFromString("mean"), of_batchmean = PyUnicode_InternFromString("batchmean");
  one = PyFloat_FromDouble(1.0), minus_one = PyFloat_FromDouble(-1.0), zero = PyFloat_FromDouble(0.0);
  if (!one || !minus_one || !zero || !of_mean || !of_batchmean || !of_name || !of_seeds || !of_ids ||
      !of_level || !of_requires_grad)
    return nullptr;
  for (int k = kAll - 1; k >= 0; --k) Py_INCREF(known[k] = given[k]);
  Py_RETURN_TRUE;
}

PyObject* prepare_losses(PyObject*, PyObject* const* given, Py_ssize_t count) {
  if (count != 3 || !known[kTensor]) Py_RETURN_FALSE;
  for (Py_ssize_t k = 0; k < count; ++k) Py_INCREF(given[k]);
  reductions = given[0], kernels = given[1], node_of = given[2];
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
                         method("signs", drawn<op::uniform_, true>),
                         method("perturb", perturb),
                         method("langevin_step", langevin_step<false>),
                         method("langevin_step_", langevin_step<true>),
                         method("affine_step", affine_step),
                         method("prepare_losses", prepare_losses, 0),
                         method("dsm_loss", dsm_loss),
                         method("denoising_loss", denoising_loss),
                         method("packed", packed, 0),
                         method("network_loss", network_loss, 0),
                         method("parts_of", parts_of, 0),
                         {nullptr, nullptr, 0, nullptr}};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace pyebm

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&pyebm::module); }
#endif
