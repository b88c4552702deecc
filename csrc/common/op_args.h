// Written by tools/op_args.py from pyebm/_schemas.py: change it there. Each op's arguments as a
// struct, which takes them from torch's stack and says what op_checks.h should check. Unlike the
// other headers of this folder it needs torch's stable ABI.
// clang-format off
#pragma once

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <cstdint>
#include <optional>

#include "targets.h"

namespace pyebm {

using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

// pyebm/_arguments.py says what they mean.
enum class Dtype { kFloats, kSame, kWork, kReal, kDouble, kLong, kBool };
enum : int { kContiguous = 1, kWritten = 2, kApart = 4, kOnHost = 16 };

namespace args {

template <class T>
T taken(StableIValue value) {
  return torch::stable::detail::to<T>(value);
}

struct Fill {
  Tensor out;
  Tensor name;
  MaybeTensor seeds;
  MaybeTensor ids;

  static constexpr uint64_t kCount = 4;
  explicit Fill(StableIValue* stack)
      : out(taken<Tensor>(stack[0])),
        name(taken<Tensor>(stack[1])),
        seeds(taken<MaybeTensor>(stack[2])),
        ids(taken<MaybeTensor>(stack[3])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("out", out, Dtype::kFloats, kWritten);
    is.name("name", name, Dtype::kLong, kContiguous);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
  }
};

struct Perturb {
  Tensor out;
  Tensor x;
  double alpha;
  double sigma;
  Tensor name;
  MaybeTensor alpha_rows;
  MaybeTensor sigma_rows;
  MaybeTensor seeds;
  MaybeTensor ids;

  static constexpr uint64_t kCount = 9;
  explicit Perturb(StableIValue* stack)
      : out(taken<Tensor>(stack[0])),
        x(taken<Tensor>(stack[1])),
        alpha(taken<double>(stack[2])),
        sigma(taken<double>(stack[3])),
        name(taken<Tensor>(stack[4])),
        alpha_rows(taken<MaybeTensor>(stack[5])),
        sigma_rows(taken<MaybeTensor>(stack[6])),
        seeds(taken<MaybeTensor>(stack[7])),
        ids(taken<MaybeTensor>(stack[8])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("out", out, Dtype::kFloats, kWritten);
    is.like("x", x, Dtype::kSame, 0);
    is.number("alpha", alpha, alpha_rows.has_value() || (alpha > -INFINITY && alpha < INFINITY), "finite");
    is.number("sigma", sigma, sigma_rows.has_value() || (sigma >= 0 && sigma < INFINITY), ">= 0 and finite");
    is.name("name", name, Dtype::kLong, kContiguous);
    is.rows("alpha", alpha_rows, Dtype::kReal, 0);
    is.rows("sigma", sigma_rows, Dtype::kReal, 0);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
  }
};

struct StepOptions {
  MaybeTensor mean;
  MaybeTensor mask;
  std::optional<double> low;
  std::optional<double> high;
  std::optional<double> score_clip;
  MaybeTensor seeds;
  MaybeTensor ids;

  static constexpr uint64_t kCount = 7;
  explicit StepOptions(StableIValue* stack)
      : mean(taken<MaybeTensor>(stack[0])),
        mask(taken<MaybeTensor>(stack[1])),
        low(taken<std::optional<double>>(stack[2])),
        high(taken<std::optional<double>>(stack[3])),
        score_clip(taken<std::optional<double>>(stack[4])),
        seeds(taken<MaybeTensor>(stack[5])),
        ids(taken<MaybeTensor>(stack[6])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.like("mean", mean, Dtype::kSame, kWritten);
    is.like("mask", mask, Dtype::kBool, 0);
    is.limit("low", low, false);
    is.limit("high", high, false);
    is.at_least("high", high, "low", low);
    is.limit("score_clip", score_clip, true);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
  }
};

struct LangevinStep {
  Tensor out;
  MaybeTensor x;
  Tensor score;
  double step_size;
  double temperature;
  Tensor name;
  MaybeTensor step_size_rows;
  MaybeTensor temperature_rows;
  StepOptions options;

  static constexpr uint64_t kCount = 15;
  explicit LangevinStep(StableIValue* stack)
      : out(taken<Tensor>(stack[0])),
        x(taken<MaybeTensor>(stack[1])),
        score(taken<Tensor>(stack[2])),
        step_size(taken<double>(stack[3])),
        temperature(taken<double>(stack[4])),
        name(taken<Tensor>(stack[5])),
        step_size_rows(taken<MaybeTensor>(stack[6])),
        temperature_rows(taken<MaybeTensor>(stack[7])),
        options(stack + 8) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("out", out, Dtype::kFloats, kWritten);
    is.like("x", x, Dtype::kSame, 0);
    is.like("score", score, Dtype::kSame, 0);
    is.number("step_size", step_size, step_size_rows.has_value() || (step_size > 0 && step_size < INFINITY), "> 0 and finite");
    is.number("temperature", temperature, temperature_rows.has_value() || (temperature >= 0 && temperature < INFINITY), ">= 0 and finite");
    is.name("name", name, Dtype::kLong, kContiguous);
    is.rows("step_size", step_size_rows, Dtype::kReal, 0);
    is.rows("temperature", temperature_rows, Dtype::kReal, 0);
    options.check(is);
  }
};

struct AffineStep {
  Tensor out;
  MaybeTensor x;
  Tensor score;
  double a;
  double b;
  double c;
  Tensor name;
  MaybeTensor a_rows;
  MaybeTensor b_rows;
  MaybeTensor c_rows;
  StepOptions options;

  static constexpr uint64_t kCount = 17;
  explicit AffineStep(StableIValue* stack)
      : out(taken<Tensor>(stack[0])),
        x(taken<MaybeTensor>(stack[1])),
        score(taken<Tensor>(stack[2])),
        a(taken<double>(stack[3])),
        b(taken<double>(stack[4])),
        c(taken<double>(stack[5])),
        name(taken<Tensor>(stack[6])),
        a_rows(taken<MaybeTensor>(stack[7])),
        b_rows(taken<MaybeTensor>(stack[8])),
        c_rows(taken<MaybeTensor>(stack[9])),
        options(stack + 10) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("out", out, Dtype::kFloats, kWritten);
    is.like("x", x, Dtype::kSame, 0);
    is.like("score", score, Dtype::kSame, 0);
    is.number("a", a, a_rows.has_value() || (a > -INFINITY && a < INFINITY), "finite");
    is.number("b", b, b_rows.has_value() || (b > -INFINITY && b < INFINITY), "finite");
    is.number("c", c, c_rows.has_value() || (c > -INFINITY && c < INFINITY), "finite");
    is.name("name", name, Dtype::kLong, kContiguous);
    is.rows("a", a_rows, Dtype::kReal, 0);
    is.rows("b", b_rows, Dtype::kReal, 0);
    is.rows("c", c_rows, Dtype::kReal, 0);
    options.check(is);
  }
};

struct PredictedStep {
  Tensor out;
  Tensor x0;
  Tensor x;
  Tensor score;
  double a;
  double b;
  double of_x;
  double of_x0;
  double c;
  Tensor name;
  std::optional<double> low;
  std::optional<double> high;
  MaybeTensor seeds;
  MaybeTensor ids;

  static constexpr uint64_t kCount = 14;
  explicit PredictedStep(StableIValue* stack)
      : out(taken<Tensor>(stack[0])),
        x0(taken<Tensor>(stack[1])),
        x(taken<Tensor>(stack[2])),
        score(taken<Tensor>(stack[3])),
        a(taken<double>(stack[4])),
        b(taken<double>(stack[5])),
        of_x(taken<double>(stack[6])),
        of_x0(taken<double>(stack[7])),
        c(taken<double>(stack[8])),
        name(taken<Tensor>(stack[9])),
        low(taken<std::optional<double>>(stack[10])),
        high(taken<std::optional<double>>(stack[11])),
        seeds(taken<MaybeTensor>(stack[12])),
        ids(taken<MaybeTensor>(stack[13])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("out", out, Dtype::kFloats, kWritten);
    is.like("x0", x0, Dtype::kSame, kWritten);
    is.like("x", x, Dtype::kSame, kApart);
    is.like("score", score, Dtype::kSame, kApart);
    is.number("a", a, (a > -INFINITY && a < INFINITY), "finite");
    is.number("b", b, (b > -INFINITY && b < INFINITY), "finite");
    is.number("of_x", of_x, (of_x > -INFINITY && of_x < INFINITY), "finite");
    is.number("of_x0", of_x0, (of_x0 > -INFINITY && of_x0 < INFINITY), "finite");
    is.number("c", c, (c > -INFINITY && c < INFINITY), "finite");
    is.name("name", name, Dtype::kLong, kContiguous);
    is.limit("low", low, false);
    is.limit("high", high, false);
    is.at_least("high", high, "low", low);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
  }
};

struct CorrectorStep {
  Tensor x;
  Tensor score;
  double factor;
  Tensor name;
  bool together;
  MaybeTensor mask;
  std::optional<double> low;
  std::optional<double> high;
  MaybeTensor seeds;
  MaybeTensor ids;

  static constexpr uint64_t kCount = 10;
  explicit CorrectorStep(StableIValue* stack)
      : x(taken<Tensor>(stack[0])),
        score(taken<Tensor>(stack[1])),
        factor(taken<double>(stack[2])),
        name(taken<Tensor>(stack[3])),
        together(taken<bool>(stack[4])),
        mask(taken<MaybeTensor>(stack[5])),
        low(taken<std::optional<double>>(stack[6])),
        high(taken<std::optional<double>>(stack[7])),
        seeds(taken<MaybeTensor>(stack[8])),
        ids(taken<MaybeTensor>(stack[9])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kWritten);
    is.like("score", score, Dtype::kSame, 0);
    is.number("factor", factor, (factor >= 0 && factor < INFINITY), ">= 0 and finite");
    is.name("name", name, Dtype::kLong, kContiguous);
    is.like("mask", mask, Dtype::kBool, 0);
    is.limit("low", low, false);
    is.limit("high", high, false);
    is.at_least("high", high, "low", low);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
  }
};

struct TargetScore {
  Tensor out;
  Tensor x;
  int64_t target;
  Tensor params;

  static constexpr uint64_t kCount = 4;
  explicit TargetScore(StableIValue* stack)
      : out(taken<Tensor>(stack[0])),
        x(taken<Tensor>(stack[1])),
        target(taken<int64_t>(stack[2])),
        params(taken<Tensor>(stack[3])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kApart);
    is.like("out", out, Dtype::kSame, kWritten);
    is.between("target", target, 0, kTargets);
    is.flat("params", params, Dtype::kWork, kContiguous);
  }
};

struct TargetEnergy {
  Tensor energy;
  Tensor score;
  Tensor x;
  int64_t target;
  Tensor params;
  double constant;

  static constexpr uint64_t kCount = 6;
  explicit TargetEnergy(StableIValue* stack)
      : energy(taken<Tensor>(stack[0])),
        score(taken<Tensor>(stack[1])),
        x(taken<Tensor>(stack[2])),
        target(taken<int64_t>(stack[3])),
        params(taken<Tensor>(stack[4])),
        constant(taken<double>(stack[5])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kApart);
    is.batch("energy", energy, Dtype::kReal, kContiguous | kWritten);
    is.like("score", score, Dtype::kSame, kWritten);
    is.between("target", target, 0, kTargets);
    is.flat("params", params, Dtype::kWork, kContiguous);
    is.number("constant", constant, (constant > -INFINITY && constant < INFINITY), "finite");
  }
};

struct ChainSteps {
  int64_t n_steps;
  double step_size;
  double temperature;
  Tensor name;
  MaybeTensor step_size_rows;
  MaybeTensor temperature_rows;
  std::optional<bool> step_size_per_step;
  std::optional<bool> temperature_per_step;
  MaybeTensor states;
  std::optional<int64_t> thin;
  MaybeTensor diverged;
  std::optional<double> low;
  std::optional<double> high;
  MaybeTensor seeds;
  MaybeTensor ids;
  MaybeTensor mask;
  std::optional<double> score_clip;

  static constexpr uint64_t kCount = 17;
  explicit ChainSteps(StableIValue* stack)
      : n_steps(taken<int64_t>(stack[0])),
        step_size(taken<double>(stack[1])),
        temperature(taken<double>(stack[2])),
        name(taken<Tensor>(stack[3])),
        step_size_rows(taken<MaybeTensor>(stack[4])),
        temperature_rows(taken<MaybeTensor>(stack[5])),
        step_size_per_step(taken<std::optional<bool>>(stack[6])),
        temperature_per_step(taken<std::optional<bool>>(stack[7])),
        states(taken<MaybeTensor>(stack[8])),
        thin(taken<std::optional<int64_t>>(stack[9])),
        diverged(taken<MaybeTensor>(stack[10])),
        low(taken<std::optional<double>>(stack[11])),
        high(taken<std::optional<double>>(stack[12])),
        seeds(taken<MaybeTensor>(stack[13])),
        ids(taken<MaybeTensor>(stack[14])),
        mask(taken<MaybeTensor>(stack[15])),
        score_clip(taken<std::optional<double>>(stack[16])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.between("n_steps", n_steps, 0, INT64_MAX);
    is.number("step_size", step_size, step_size_rows.has_value() || (step_size > 0 && step_size < INFINITY), "> 0 and finite");
    is.number("temperature", temperature, temperature_rows.has_value() || (temperature >= 0 && temperature < INFINITY), ">= 0 and finite");
    is.name("name", name, Dtype::kLong, kContiguous);
    is.together("states", states.has_value(), "thin", thin.has_value());
    is.between("thin", thin, 1, INT64_MAX);
    is.batch("diverged", diverged, Dtype::kLong, kContiguous | kWritten);
    is.limit("low", low, false);
    is.limit("high", high, false);
    is.at_least("high", high, "low", low);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
    is.like("mask", mask, Dtype::kBool, 0);
    is.limit("score_clip", score_clip, true);
    is.schedule("step_size", step_size_rows, Dtype::kReal, 0, step_size_per_step, n_steps);
    is.schedule("temperature", temperature_rows, Dtype::kReal, 0, temperature_per_step, n_steps);
    is.states("states", states, Dtype::kSame, kContiguous | kWritten, n_steps, thin);
  }
};

struct LangevinChain {
  Tensor x;
  int64_t target;
  Tensor params;
  ChainSteps steps;

  static constexpr uint64_t kCount = 20;
  explicit LangevinChain(StableIValue* stack)
      : x(taken<Tensor>(stack[0])),
        target(taken<int64_t>(stack[1])),
        params(taken<Tensor>(stack[2])),
        steps(stack + 3) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kWritten);
    is.between("target", target, 0, kTargets);
    is.flat("params", params, Dtype::kWork, kContiguous);
    steps.check(is);
  }
};

struct NetworkScore {
  MaybeTensor score;
  Tensor x;
  Tensor layout;
  Tensor params;
  MaybeTensor biases;
  MaybeTensor energy;

  static constexpr uint64_t kCount = 6;
  explicit NetworkScore(StableIValue* stack)
      : score(taken<MaybeTensor>(stack[0])),
        x(taken<Tensor>(stack[1])),
        layout(taken<Tensor>(stack[2])),
        params(taken<Tensor>(stack[3])),
        biases(taken<MaybeTensor>(stack[4])),
        energy(taken<MaybeTensor>(stack[5])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kApart);
    is.like("score", score, Dtype::kSame, kWritten);
    is.flat("layout", layout, Dtype::kLong, kContiguous | kOnHost);
    is.flat("params", params, Dtype::kWork, kContiguous);
    is.table("biases", biases, Dtype::kWork, kContiguous);
    is.batch("energy", energy, Dtype::kReal, kContiguous | kWritten);
  }
};

struct NetworkHvp {
  Tensor out;
  Tensor x;
  Tensor v;
  Tensor layout;
  Tensor params;
  MaybeTensor biases;

  static constexpr uint64_t kCount = 6;
  explicit NetworkHvp(StableIValue* stack)
      : out(taken<Tensor>(stack[0])),
        x(taken<Tensor>(stack[1])),
        v(taken<Tensor>(stack[2])),
        layout(taken<Tensor>(stack[3])),
        params(taken<Tensor>(stack[4])),
        biases(taken<MaybeTensor>(stack[5])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kApart);
    is.like("out", out, Dtype::kSame, kWritten);
    is.like("v", v, Dtype::kSame, kApart);
    is.flat("layout", layout, Dtype::kLong, kContiguous | kOnHost);
    is.flat("params", params, Dtype::kWork, kContiguous);
    is.table("biases", biases, Dtype::kWork, kContiguous);
  }
};

struct NetworkGrad {
  MaybeTensor grad;
  Tensor x;
  Tensor layout;
  Tensor params;
  MaybeTensor energy_above;
  MaybeTensor score_above;
  MaybeTensor biases;
  MaybeTensor grad_biases;
  MaybeTensor grad_x;

  static constexpr uint64_t kCount = 9;
  explicit NetworkGrad(StableIValue* stack)
      : grad(taken<MaybeTensor>(stack[0])),
        x(taken<Tensor>(stack[1])),
        layout(taken<Tensor>(stack[2])),
        params(taken<Tensor>(stack[3])),
        energy_above(taken<MaybeTensor>(stack[4])),
        score_above(taken<MaybeTensor>(stack[5])),
        biases(taken<MaybeTensor>(stack[6])),
        grad_biases(taken<MaybeTensor>(stack[7])),
        grad_x(taken<MaybeTensor>(stack[8])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kApart);
    is.flat("grad", grad, Dtype::kWork, kContiguous | kWritten);
    is.flat("layout", layout, Dtype::kLong, kContiguous | kOnHost);
    is.flat("params", params, Dtype::kWork, kContiguous);
    is.batch("energy_above", energy_above, Dtype::kWork, kContiguous);
    is.like("score_above", score_above, Dtype::kSame, kApart);
    is.table("biases", biases, Dtype::kWork, kContiguous);
    is.table("grad_biases", grad_biases, Dtype::kWork, kContiguous | kWritten);
    is.like("grad_x", grad_x, Dtype::kSame, kWritten);
  }
};

struct NetworkLoss {
  Tensor loss;
  MaybeTensor grad;
  Tensor x;
  Tensor layout;
  Tensor params;
  bool of_energy;
  double weight;
  double kappa;
  double trace;
  double square;
  bool along;
  MaybeTensor weight_rows;
  MaybeTensor kappa_rows;
  MaybeTensor z;
  MaybeTensor name;
  MaybeTensor seeds;
  MaybeTensor ids;
  MaybeTensor v;
  MaybeTensor biases;
  MaybeTensor grad_biases;
  MaybeTensor grad_x;

  static constexpr uint64_t kCount = 21;
  explicit NetworkLoss(StableIValue* stack)
      : loss(taken<Tensor>(stack[0])),
        grad(taken<MaybeTensor>(stack[1])),
        x(taken<Tensor>(stack[2])),
        layout(taken<Tensor>(stack[3])),
        params(taken<Tensor>(stack[4])),
        of_energy(taken<bool>(stack[5])),
        weight(taken<double>(stack[6])),
        kappa(taken<double>(stack[7])),
        trace(taken<double>(stack[8])),
        square(taken<double>(stack[9])),
        along(taken<bool>(stack[10])),
        weight_rows(taken<MaybeTensor>(stack[11])),
        kappa_rows(taken<MaybeTensor>(stack[12])),
        z(taken<MaybeTensor>(stack[13])),
        name(taken<MaybeTensor>(stack[14])),
        seeds(taken<MaybeTensor>(stack[15])),
        ids(taken<MaybeTensor>(stack[16])),
        v(taken<MaybeTensor>(stack[17])),
        biases(taken<MaybeTensor>(stack[18])),
        grad_biases(taken<MaybeTensor>(stack[19])),
        grad_x(taken<MaybeTensor>(stack[20])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kApart);
    is.above_rows("loss", loss, Dtype::kReal, kContiguous | kWritten);
    is.flat("grad", grad, Dtype::kWork, kContiguous | kWritten);
    is.flat("layout", layout, Dtype::kLong, kContiguous | kOnHost);
    is.flat("params", params, Dtype::kWork, kContiguous);
    is.number("weight", weight, weight_rows.has_value() || (weight > -INFINITY && weight < INFINITY), "finite");
    is.number("kappa", kappa, kappa_rows.has_value() || (kappa > -INFINITY && kappa < INFINITY), "finite");
    is.number("trace", trace, (trace > -INFINITY && trace < INFINITY), "finite");
    is.number("square", square, (square > -INFINITY && square < INFINITY), "finite");
    is.above_rows("weight", weight_rows, Dtype::kReal, 0);
    is.above_rows("kappa", kappa_rows, Dtype::kReal, 0);
    is.like("z", z, Dtype::kSame, kApart);
    is.name("name", name, Dtype::kLong, kContiguous);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
    is.table("v", v, Dtype::kWork, kContiguous);
    is.table("biases", biases, Dtype::kWork, kContiguous);
    is.table("grad_biases", grad_biases, Dtype::kWork, kContiguous | kWritten);
    is.like("grad_x", grad_x, Dtype::kSame, kWritten);
  }
};

struct NetworkLaplacian {
  Tensor out;
  Tensor x;
  Tensor layout;
  Tensor params;
  MaybeTensor biases;

  static constexpr uint64_t kCount = 5;
  explicit NetworkLaplacian(StableIValue* stack)
      : out(taken<Tensor>(stack[0])),
        x(taken<Tensor>(stack[1])),
        layout(taken<Tensor>(stack[2])),
        params(taken<Tensor>(stack[3])),
        biases(taken<MaybeTensor>(stack[4])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, 0);
    is.batch("out", out, Dtype::kWork, kContiguous | kWritten);
    is.flat("layout", layout, Dtype::kLong, kContiguous | kOnHost);
    is.flat("params", params, Dtype::kWork, kContiguous);
    is.table("biases", biases, Dtype::kWork, kContiguous);
  }
};

struct NetworkChain {
  Tensor x;
  Tensor layout;
  Tensor params;
  ChainSteps steps;
  MaybeTensor biases;
  std::optional<bool> biases_per_step;
  MaybeTensor known;
  MaybeTensor marginals;

  static constexpr uint64_t kCount = 24;
  explicit NetworkChain(StableIValue* stack)
      : x(taken<Tensor>(stack[0])),
        layout(taken<Tensor>(stack[1])),
        params(taken<Tensor>(stack[2])),
        steps(stack + 3),
        biases(taken<MaybeTensor>(stack[20])),
        biases_per_step(taken<std::optional<bool>>(stack[21])),
        known(taken<MaybeTensor>(stack[22])),
        marginals(taken<MaybeTensor>(stack[23])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kWritten);
    is.flat("layout", layout, Dtype::kLong, kContiguous | kOnHost);
    is.flat("params", params, Dtype::kWork, kContiguous);
    is.table("biases", biases, Dtype::kWork, kContiguous);
    is.like("known", known, Dtype::kSame, 0);
    is.together("known", known.has_value(), "marginals", marginals.has_value());
    is.table("marginals", marginals, Dtype::kDouble, kContiguous);
    steps.check(is);
  }
};

struct Density {
  int64_t target;
  Tensor params;
  MaybeTensor layout;
  MaybeTensor biases;

  static constexpr uint64_t kCount = 4;
  explicit Density(StableIValue* stack)
      : target(taken<int64_t>(stack[0])),
        params(taken<Tensor>(stack[1])),
        layout(taken<MaybeTensor>(stack[2])),
        biases(taken<MaybeTensor>(stack[3])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.between("target", target, 0, kTargets);
    is.flat("params", params, Dtype::kWork, kContiguous);
    is.flat("layout", layout, Dtype::kLong, kContiguous | kOnHost);
    is.table("biases", biases, Dtype::kWork, kContiguous);
  }
};

struct UnderdampedChain {
  Tensor x;
  Tensor velocity;
  Density density;
  Tensor coefficients;
  int64_t n_steps;
  Tensor name;
  MaybeTensor states;
  std::optional<int64_t> thin;
  MaybeTensor mask;
  std::optional<double> low;
  std::optional<double> high;
  std::optional<double> score_clip;
  MaybeTensor seeds;
  MaybeTensor ids;

  static constexpr uint64_t kCount = 17;
  explicit UnderdampedChain(StableIValue* stack)
      : x(taken<Tensor>(stack[0])),
        velocity(taken<Tensor>(stack[1])),
        density(stack + 2),
        coefficients(taken<Tensor>(stack[6])),
        n_steps(taken<int64_t>(stack[7])),
        name(taken<Tensor>(stack[8])),
        states(taken<MaybeTensor>(stack[9])),
        thin(taken<std::optional<int64_t>>(stack[10])),
        mask(taken<MaybeTensor>(stack[11])),
        low(taken<std::optional<double>>(stack[12])),
        high(taken<std::optional<double>>(stack[13])),
        score_clip(taken<std::optional<double>>(stack[14])),
        seeds(taken<MaybeTensor>(stack[15])),
        ids(taken<MaybeTensor>(stack[16])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kWritten);
    is.like("velocity", velocity, Dtype::kSame, kWritten);
    is.table("coefficients", coefficients, Dtype::kDouble, kContiguous);
    is.between("n_steps", n_steps, 0, INT64_MAX);
    is.name("name", name, Dtype::kLong, kContiguous);
    is.together("states", states.has_value(), "thin", thin.has_value());
    is.between("thin", thin, 1, INT64_MAX);
    is.like("mask", mask, Dtype::kBool, 0);
    is.limit("low", low, false);
    is.limit("high", high, false);
    is.at_least("high", high, "low", low);
    is.limit("score_clip", score_clip, true);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
    density.check(is);
    is.states("states", states, Dtype::kSame, kContiguous | kWritten, n_steps, thin);
  }
};

struct PredictorCorrector {
  Tensor x;
  Tensor layout;
  Tensor params;
  Tensor biases;
  Tensor coefficients;
  int64_t n_steps;
  int64_t correctors;
  bool predicts;
  bool together;
  Tensor name;
  MaybeTensor states;
  std::optional<int64_t> thin;
  MaybeTensor mask;
  std::optional<double> low;
  std::optional<double> high;
  MaybeTensor seeds;
  MaybeTensor ids;
  MaybeTensor known;
  MaybeTensor marginals;

  static constexpr uint64_t kCount = 19;
  explicit PredictorCorrector(StableIValue* stack)
      : x(taken<Tensor>(stack[0])),
        layout(taken<Tensor>(stack[1])),
        params(taken<Tensor>(stack[2])),
        biases(taken<Tensor>(stack[3])),
        coefficients(taken<Tensor>(stack[4])),
        n_steps(taken<int64_t>(stack[5])),
        correctors(taken<int64_t>(stack[6])),
        predicts(taken<bool>(stack[7])),
        together(taken<bool>(stack[8])),
        name(taken<Tensor>(stack[9])),
        states(taken<MaybeTensor>(stack[10])),
        thin(taken<std::optional<int64_t>>(stack[11])),
        mask(taken<MaybeTensor>(stack[12])),
        low(taken<std::optional<double>>(stack[13])),
        high(taken<std::optional<double>>(stack[14])),
        seeds(taken<MaybeTensor>(stack[15])),
        ids(taken<MaybeTensor>(stack[16])),
        known(taken<MaybeTensor>(stack[17])),
        marginals(taken<MaybeTensor>(stack[18])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kWritten);
    is.flat("layout", layout, Dtype::kLong, kContiguous | kOnHost);
    is.flat("params", params, Dtype::kWork, kContiguous);
    is.table("biases", biases, Dtype::kWork, kContiguous);
    is.table("coefficients", coefficients, Dtype::kDouble, kContiguous);
    is.between("n_steps", n_steps, 0, INT64_MAX);
    is.between("correctors", correctors, 0, 2147483648);
    is.name("name", name, Dtype::kLong, kContiguous);
    is.together("states", states.has_value(), "thin", thin.has_value());
    is.between("thin", thin, 1, INT64_MAX);
    is.like("mask", mask, Dtype::kBool, 0);
    is.limit("low", low, false);
    is.limit("high", high, false);
    is.at_least("high", high, "low", low);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
    is.like("known", known, Dtype::kSame, 0);
    is.together("known", known.has_value(), "marginals", marginals.has_value());
    is.table("marginals", marginals, Dtype::kDouble, kContiguous);
    is.states("states", states, Dtype::kSame, kContiguous | kWritten, n_steps, thin);
  }
};

struct Leapfrog {
  Tensor x;
  Tensor p;
  double step_size;
  MaybeTensor score;
  MaybeTensor from_x;
  MaybeTensor from_p;
  MaybeTensor step_size_rows;

  static constexpr uint64_t kCount = 7;
  explicit Leapfrog(StableIValue* stack)
      : x(taken<Tensor>(stack[0])),
        p(taken<Tensor>(stack[1])),
        step_size(taken<double>(stack[2])),
        score(taken<MaybeTensor>(stack[3])),
        from_x(taken<MaybeTensor>(stack[4])),
        from_p(taken<MaybeTensor>(stack[5])),
        step_size_rows(taken<MaybeTensor>(stack[6])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kWritten);
    is.like("p", p, Dtype::kSame, kWritten);
    is.number("step_size", step_size, step_size_rows.has_value() || (step_size > -INFINITY && step_size < INFINITY), "finite");
    is.like("score", score, Dtype::kSame, 0);
    is.like("from_x", from_x, Dtype::kSame, kApart);
    is.like("from_p", from_p, Dtype::kSame, 0);
    is.above_rows("step_size", step_size_rows, Dtype::kReal, 0);
  }
};

struct Metropolis {
  Tensor x;
  Tensor score;
  Tensor energy;
  Tensor accepted;
  Tensor accept;
  Tensor log_alpha;
  Tensor proposal;
  Tensor proposal_score;
  Tensor proposal_energy;
  double step;
  double scale;
  double temperature;
  Tensor name;
  MaybeTensor first;
  MaybeTensor last;
  MaybeTensor step_rows;
  MaybeTensor scale_rows;
  MaybeTensor seeds;
  MaybeTensor ids;

  static constexpr uint64_t kCount = 19;
  explicit Metropolis(StableIValue* stack)
      : x(taken<Tensor>(stack[0])),
        score(taken<Tensor>(stack[1])),
        energy(taken<Tensor>(stack[2])),
        accepted(taken<Tensor>(stack[3])),
        accept(taken<Tensor>(stack[4])),
        log_alpha(taken<Tensor>(stack[5])),
        proposal(taken<Tensor>(stack[6])),
        proposal_score(taken<Tensor>(stack[7])),
        proposal_energy(taken<Tensor>(stack[8])),
        step(taken<double>(stack[9])),
        scale(taken<double>(stack[10])),
        temperature(taken<double>(stack[11])),
        name(taken<Tensor>(stack[12])),
        first(taken<MaybeTensor>(stack[13])),
        last(taken<MaybeTensor>(stack[14])),
        step_rows(taken<MaybeTensor>(stack[15])),
        scale_rows(taken<MaybeTensor>(stack[16])),
        seeds(taken<MaybeTensor>(stack[17])),
        ids(taken<MaybeTensor>(stack[18])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kContiguous | kWritten);
    is.like("score", score, Dtype::kSame, kContiguous | kWritten);
    is.batch("energy", energy, Dtype::kDouble, kContiguous | kWritten);
    is.batch("accepted", accepted, Dtype::kLong, kContiguous | kWritten);
    is.batch("accept", accept, Dtype::kBool, kContiguous | kWritten);
    is.batch("log_alpha", log_alpha, Dtype::kDouble, kContiguous | kWritten);
    is.like("proposal", proposal, Dtype::kSame, kContiguous);
    is.like("proposal_score", proposal_score, Dtype::kSame, kContiguous);
    is.batch("proposal_energy", proposal_energy, Dtype::kReal, 0);
    is.number("step", step, step_rows.has_value() || (step > -INFINITY && step < INFINITY), "finite");
    is.number("temperature", temperature, (temperature > 0 && temperature < INFINITY), "> 0 and finite");
    is.name("name", name, Dtype::kLong, kContiguous);
    is.like("first", first, Dtype::kSame, 0);
    is.together("first", first.has_value(), "last", last.has_value());
    is.like("last", last, Dtype::kSame, 0);
    is.above_rows("step", step_rows, Dtype::kReal, 0);
    is.above_rows("scale", scale_rows, Dtype::kReal, 0);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
  }
};

struct Averaging {
  std::optional<double> acceptance;
  std::optional<int64_t> warmup;
  std::optional<int64_t> averaged;
  MaybeTensor averaging;

  static constexpr uint64_t kCount = 4;
  explicit Averaging(StableIValue* stack)
      : acceptance(taken<std::optional<double>>(stack[0])),
        warmup(taken<std::optional<int64_t>>(stack[1])),
        averaged(taken<std::optional<int64_t>>(stack[2])),
        averaging(taken<MaybeTensor>(stack[3])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.number("acceptance", acceptance, (acceptance > 0 && acceptance < 1), "in (0, 1)");
    is.together("acceptance", acceptance.has_value(), "warmup", warmup.has_value());
    is.between("warmup", warmup, 0, INT64_MAX);
    is.together("warmup", warmup.has_value(), "averaged", averaged.has_value());
    is.between("averaged", averaged, 0, INT64_MAX);
    is.together("averaged", averaged.has_value(), "averaging", averaging.has_value());
    is.table("averaging", averaging, Dtype::kDouble, kContiguous | kWritten);
  }
};

struct MetropolisChain {
  Tensor x;
  Tensor score;
  Tensor energy;
  Tensor accepted;
  Tensor accept;
  Tensor log_alpha;
  Density density;
  double constant;
  int64_t n_steps;
  int64_t n_leapfrog;
  double step_size;
  double temperature;
  Tensor name;
  double jitter;
  Averaging averages;
  MaybeTensor step_size_rows;
  std::optional<bool> step_size_per_step;
  MaybeTensor temperature_rows;
  MaybeTensor reports;
  MaybeTensor states;
  std::optional<int64_t> thin;
  MaybeTensor mask;
  MaybeTensor root;
  MaybeTensor seeds;
  MaybeTensor ids;

  static constexpr uint64_t kCount = 31;
  explicit MetropolisChain(StableIValue* stack)
      : x(taken<Tensor>(stack[0])),
        score(taken<Tensor>(stack[1])),
        energy(taken<Tensor>(stack[2])),
        accepted(taken<Tensor>(stack[3])),
        accept(taken<Tensor>(stack[4])),
        log_alpha(taken<Tensor>(stack[5])),
        density(stack + 6),
        constant(taken<double>(stack[10])),
        n_steps(taken<int64_t>(stack[11])),
        n_leapfrog(taken<int64_t>(stack[12])),
        step_size(taken<double>(stack[13])),
        temperature(taken<double>(stack[14])),
        name(taken<Tensor>(stack[15])),
        jitter(taken<double>(stack[16])),
        averages(stack + 17),
        step_size_rows(taken<MaybeTensor>(stack[21])),
        step_size_per_step(taken<std::optional<bool>>(stack[22])),
        temperature_rows(taken<MaybeTensor>(stack[23])),
        reports(taken<MaybeTensor>(stack[24])),
        states(taken<MaybeTensor>(stack[25])),
        thin(taken<std::optional<int64_t>>(stack[26])),
        mask(taken<MaybeTensor>(stack[27])),
        root(taken<MaybeTensor>(stack[28])),
        seeds(taken<MaybeTensor>(stack[29])),
        ids(taken<MaybeTensor>(stack[30])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("x", x, Dtype::kFloats, kWritten);
    is.like("score", score, Dtype::kSame, kWritten);
    is.batch("energy", energy, Dtype::kDouble, kContiguous | kWritten);
    is.batch("accepted", accepted, Dtype::kLong, kContiguous | kWritten);
    is.batch("accept", accept, Dtype::kBool, kContiguous | kWritten);
    is.batch("log_alpha", log_alpha, Dtype::kDouble, kContiguous | kWritten);
    is.number("constant", constant, (constant > -INFINITY && constant < INFINITY), "finite");
    is.between("n_steps", n_steps, 0, INT64_MAX);
    is.between("n_leapfrog", n_leapfrog, 0, 1048576);
    is.number("step_size", step_size, step_size_rows.has_value() || (step_size > 0 && step_size < INFINITY), "> 0 and finite");
    is.number("temperature", temperature, temperature_rows.has_value() || (temperature > 0 && temperature < INFINITY), "> 0 and finite");
    is.name("name", name, Dtype::kLong, kContiguous);
    is.number("jitter", jitter, (jitter >= 0 && jitter < 1), "in [0, 1)");
    is.flat("temperature", temperature_rows, Dtype::kDouble, kContiguous);
    is.table("reports", reports, Dtype::kDouble, kContiguous | kWritten);
    is.together("reports", reports.has_value(), "states", states.has_value());
    is.together("states", states.has_value(), "thin", thin.has_value());
    is.between("thin", thin, 1, INT64_MAX);
    is.like("mask", mask, Dtype::kBool, 0);
    is.like("root", root, Dtype::kSame, 0);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
    density.check(is);
    averages.check(is);
    is.schedule("step_size", step_size_rows, Dtype::kReal, 0, step_size_per_step, n_steps);
    is.states("states", states, Dtype::kSame, kContiguous | kWritten, n_steps, thin);
  }
};

struct DualAveraging {
  Tensor step_size;
  Tensor log_average;
  Tensor gap;
  Tensor steps;
  Tensor log_alpha;
  Tensor middle;
  int64_t warmup;
  double target;
  bool together;

  static constexpr uint64_t kCount = 9;
  explicit DualAveraging(StableIValue* stack)
      : step_size(taken<Tensor>(stack[0])),
        log_average(taken<Tensor>(stack[1])),
        gap(taken<Tensor>(stack[2])),
        steps(taken<Tensor>(stack[3])),
        log_alpha(taken<Tensor>(stack[4])),
        middle(taken<Tensor>(stack[5])),
        warmup(taken<int64_t>(stack[6])),
        target(taken<double>(stack[7])),
        together(taken<bool>(stack[8])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("step_size", step_size, Dtype::kDouble, kContiguous | kWritten);
    is.like("log_average", log_average, Dtype::kSame, kContiguous | kWritten);
    is.like("gap", gap, Dtype::kSame, kContiguous | kWritten);
    is.one("steps", steps, Dtype::kDouble, kWritten);
    is.like("log_alpha", log_alpha, Dtype::kSame, kContiguous);
    is.like("middle", middle, Dtype::kSame, kContiguous);
    is.between("warmup", warmup, 0, INT64_MAX);
    is.number("target", target, (target > 0 && target < 1), "in (0, 1)");
  }
};

struct LossTerms {
  double kappa;
  double lam;
  double mu;
  double weight;
  double factor;
  bool over_kappa2;
  int64_t reduction;
  MaybeTensor name;
  MaybeTensor kappa_rows;
  MaybeTensor lam_rows;
  MaybeTensor mu_rows;
  MaybeTensor weight_rows;
  MaybeTensor z;
  MaybeTensor x0;
  MaybeTensor seeds;
  MaybeTensor ids;
  std::optional<bool> kappa_positive;

  static constexpr uint64_t kCount = 17;
  explicit LossTerms(StableIValue* stack)
      : kappa(taken<double>(stack[0])),
        lam(taken<double>(stack[1])),
        mu(taken<double>(stack[2])),
        weight(taken<double>(stack[3])),
        factor(taken<double>(stack[4])),
        over_kappa2(taken<bool>(stack[5])),
        reduction(taken<int64_t>(stack[6])),
        name(taken<MaybeTensor>(stack[7])),
        kappa_rows(taken<MaybeTensor>(stack[8])),
        lam_rows(taken<MaybeTensor>(stack[9])),
        mu_rows(taken<MaybeTensor>(stack[10])),
        weight_rows(taken<MaybeTensor>(stack[11])),
        z(taken<MaybeTensor>(stack[12])),
        x0(taken<MaybeTensor>(stack[13])),
        seeds(taken<MaybeTensor>(stack[14])),
        ids(taken<MaybeTensor>(stack[15])),
        kappa_positive(taken<std::optional<bool>>(stack[16])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.number("kappa", kappa, kappa_rows.has_value() || (kappa > -INFINITY && kappa < INFINITY), "finite");
    is.number("kappa", kappa, kappa_rows.has_value() || !over_kappa2 || (kappa > 0 && kappa < INFINITY), "> 0 and finite");
    is.number("kappa", kappa, kappa_rows.has_value() || !kappa_positive.value_or(false) || (kappa >= 0 && kappa < INFINITY), ">= 0 and finite");
    is.number("lam", lam, lam_rows.has_value() || (lam > -INFINITY && lam < INFINITY), "finite");
    is.number("mu", mu, mu_rows.has_value() || (mu > -INFINITY && mu < INFINITY), "finite");
    is.number("weight", weight, weight_rows.has_value() || (weight > -INFINITY && weight < INFINITY), "finite");
    is.number("factor", factor, (factor > -INFINITY && factor < INFINITY), "finite");
    is.between("reduction", reduction, 0, 5);
    is.name("name", name, Dtype::kLong, kContiguous);
    is.rows("kappa", kappa_rows, Dtype::kReal, 0);
    is.rows("lam", lam_rows, Dtype::kReal, 0);
    is.rows("mu", mu_rows, Dtype::kReal, 0);
    is.rows("weight", weight_rows, Dtype::kReal, 0);
    is.like("z", z, Dtype::kSame, 0);
    is.like("x0", x0, Dtype::kSame, 0);
    is.batch("seeds", seeds, Dtype::kLong, kContiguous);
    is.batch("ids", ids, Dtype::kLong, kContiguous);
  }
};

struct DenoisingLoss {
  Tensor loss;
  MaybeTensor grad;
  Tensor pred;
  LossTerms terms;

  static constexpr uint64_t kCount = 20;
  explicit DenoisingLoss(StableIValue* stack)
      : loss(taken<Tensor>(stack[0])),
        grad(taken<MaybeTensor>(stack[1])),
        pred(taken<Tensor>(stack[2])),
        terms(stack + 3) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("pred", pred, Dtype::kFloats, 0);
    is.like("grad", grad, Dtype::kSame, kWritten);
    terms.check(is);
    is.loss("loss", loss, Dtype::kReal, kWritten, terms.reduction);
  }
};

struct DenoisingGrad {
  Tensor grad;
  Tensor grad_output;
  Tensor pred;
  LossTerms terms;

  static constexpr uint64_t kCount = 20;
  explicit DenoisingGrad(StableIValue* stack)
      : grad(taken<Tensor>(stack[0])),
        grad_output(taken<Tensor>(stack[1])),
        pred(taken<Tensor>(stack[2])),
        terms(stack + 3) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("pred", pred, Dtype::kFloats, 0);
    is.like("grad", grad, Dtype::kSame, kWritten);
    terms.check(is);
    is.above("grad_output", grad_output, Dtype::kReal, 0, terms.reduction);
  }
};

struct Scale {
  Tensor grad;
  Tensor grad_output;

  static constexpr uint64_t kCount = 2;
  explicit Scale(StableIValue* stack)
      : grad(taken<Tensor>(stack[0])),
        grad_output(taken<Tensor>(stack[1])) {}

  template <class Checks>
  void check(Checks& is) const {
    is.samples("grad", grad, Dtype::kFloats, kWritten);
    is.above_rows("grad_output", grad_output, Dtype::kReal, 0);
  }
};

}  // namespace args

namespace op {

struct normal_ { using Args = args::Fill; static constexpr const char* kName = "normal_"; };
struct uniform_ { using Args = args::Fill; static constexpr const char* kName = "uniform_"; };
struct perturb { using Args = args::Perturb; static constexpr const char* kName = "perturb"; };
struct langevin_step { using Args = args::LangevinStep; static constexpr const char* kName = "langevin_step"; };
struct affine_step { using Args = args::AffineStep; static constexpr const char* kName = "affine_step"; };
struct predicted_step { using Args = args::PredictedStep; static constexpr const char* kName = "predicted_step"; };
struct corrector_step { using Args = args::CorrectorStep; static constexpr const char* kName = "corrector_step"; };
struct target_score { using Args = args::TargetScore; static constexpr const char* kName = "target_score"; };
struct target_energy { using Args = args::TargetEnergy; static constexpr const char* kName = "target_energy"; };
struct langevin_chain { using Args = args::LangevinChain; static constexpr const char* kName = "langevin_chain"; };
struct network_score { using Args = args::NetworkScore; static constexpr const char* kName = "network_score"; };
struct network_hvp { using Args = args::NetworkHvp; static constexpr const char* kName = "network_hvp"; };
struct network_grad { using Args = args::NetworkGrad; static constexpr const char* kName = "network_grad"; };
struct network_loss { using Args = args::NetworkLoss; static constexpr const char* kName = "network_loss"; };
struct network_laplacian { using Args = args::NetworkLaplacian; static constexpr const char* kName = "network_laplacian"; };
struct network_chain { using Args = args::NetworkChain; static constexpr const char* kName = "network_chain"; };
struct underdamped_chain { using Args = args::UnderdampedChain; static constexpr const char* kName = "underdamped_chain"; };
struct predictor_corrector { using Args = args::PredictorCorrector; static constexpr const char* kName = "predictor_corrector"; };
struct leapfrog { using Args = args::Leapfrog; static constexpr const char* kName = "leapfrog"; };
struct metropolis { using Args = args::Metropolis; static constexpr const char* kName = "metropolis"; };
struct metropolis_chain { using Args = args::MetropolisChain; static constexpr const char* kName = "metropolis_chain"; };
struct dual_averaging { using Args = args::DualAveraging; static constexpr const char* kName = "dual_averaging"; };
struct denoising_loss { using Args = args::DenoisingLoss; static constexpr const char* kName = "denoising_loss"; };
struct denoising_grad { using Args = args::DenoisingGrad; static constexpr const char* kName = "denoising_grad"; };
struct scale_ { using Args = args::Scale; static constexpr const char* kName = "scale_"; };

}  // namespace op

namespace plain {

struct call {
  int64_t samples;
  int64_t elements;
  int64_t is_double;
  int64_t seed;
  int64_t first_sample;
  int64_t stream;
};

struct affine_step {
  plain::call call;
  double a;
  double b;
  double c;
};

struct corrector_step {
  plain::call call;
  double factor;
  int64_t together;
};

constexpr const char* kLayout =
    "call: int samples, int elements, int is_double, int seed, int first_sample, int stream; affine_step: float a, float b, float c; corrector_step: float factor, int together";

}  // namespace plain
}  // namespace pyebm
