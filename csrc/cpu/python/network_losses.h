// Functions of the module for networks (pyebm/targets/_fused.py, _wiring.py).
#pragma once

#include "objects.h"

namespace pyebm {

// packed(parts): the parts of params, one after another in a new tensor. Python makes sure that they
// are contiguous and on the CPU.
PyObject* packed(PyObject*, PyObject* const* given, Py_ssize_t count);

// network_loss(x, layout, parts, terms, of_energy, by_sample, losses, wanted): packs the parameters
// and makes the op's pass. Returns (loss, params, grad_x, None, grad), with None for a gradient that
// is not wanted; `wanted` is the sum of 1 for grad_x and 4 for grad.
PyObject* network_loss(PyObject*, PyObject* const* given, Py_ssize_t count);

// parts_of(grad, places, wanted): the gradients of the parts of params, as views of its own. A place
// is (sizes, strides, first number); a part that is not wanted gets None.
PyObject* parts_of(PyObject*, PyObject* const* given, Py_ssize_t count);

}  // namespace pyebm
