"""The arguments of one good call of a registered op, and ways to spoil one of them."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from guarded import Arena, layout, values
from torch import Tensor

from pyebm._schemas import REDUCTIONS, TARGETS

INTS = (-1, 0, 1, 2, 7, 10, 11, 12, 100, 2**31, 2**32, 2**62, -(2**63), 2**63 - 1)
NUMBERS = (math.nan, math.inf, -math.inf, -1.0, 0.0, -0.0, 1e300, 1e-300, 5e-324)
DTYPES = (
    *(
        torch.uint8,
        torch.int8,
        torch.bool,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
    ),
    *(torch.float64, torch.complex64, torch.float8_e4m3fn, torch.uint16),
)


AVERAGING = ("averaging", "averaged", "warmup", "acceptance")


class Good:
    """The arguments of one good call, by name."""

    def __init__(self, op: str, rng: random.Random) -> None:
        self.op, self.rng, self.arena = op, rng, Arena(rng)
        self.shape = (rng.randint(1, 6), *rng.choice(((3,), (8,), (4, 5), ())))
        self.dtype = rng.choice((torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16))
        self.work = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.schema = getattr(torch.ops.pyebm, op).default._schema
        contiguous = ("langevin_chain", "leapfrog", "dual_averaging", "target_energy", "corrector_step")
        contiguous += ("underdamped_chain", "predictor_corrector")
        self.strided = op not in contiguous and not op.startswith(("metropolis", "network"))
        if op in ("leapfrog", "metropolis", "metropolis_chain") and self.dtype in (
            torch.float16,
            torch.bfloat16,
        ):
            self.dtype = torch.float32
        self.hmc = rng.random() < 0.5
        taken = {argument.name for argument in self.schema.arguments}
        self.network = "layout" in taken and ("target" not in taken or rng.random() < 0.5)
        self.chain_steps, self.thin = rng.randint(0, 5), rng.choice((None, 1, 2))
        self.target = rng.choice(("harmonic", "double_well", "rastrigin"))
        self.averages, self.known = rng.random() < 0.5, rng.random() < 0.5
        self.reduction = rng.choice([name for name in REDUCTIONS if op != "scale_" or name != "none"])
        self.named = {argument.name: self._value(argument) for argument in self.schema.arguments}

    def _value(self, argument: Any) -> Any:
        name, optional = argument.name, str(argument.type).startswith("Optional")
        needed = (name in ("first", "last") and self.hmc) or (name in ("states", "thin") and self.thin)
        needed = needed or (name == "reports" and self.thin) or (name in AVERAGING and self.averages)
        needed = needed or (name in ("known", "marginals") and self.known)
        needed = needed or (
            name == "mask" and self.known and self.op in ("network_chain", "predictor_corrector")
        )
        needed = needed or (name == "layout" and self.network) or self.op in ("network_grad", "network_loss")
        needed = needed or (self.op, name) == ("network_score", "score")
        never = name in (
            "first",
            "last",
            "states",
            "reports",
            "thin",
            "layout",
            "known",
            "marginals",
            *AVERAGING,
        ) or (name == "z" and "denoising" in self.op)
        if (
            optional
            and not needed
            and (never or self.rng.random() < 0.5)
            and not (name == "name" and "denoising" in self.op)
        ):
            return None
        made = self._made(name)
        if isinstance(made, Tensor):
            contiguous = (
                not self.strided or made.shape != self.shape or name in ("seeds", "ids", "name", "params")
            )
            contiguous = contiguous or (
                name == "loss" and self.reduction != "none"
            )  # a loss of each sample is contiguous, also where samples are single numbers
            written = argument.alias_info is not None
            strides = (
                list(made.stride()) if contiguous else layout(self.rng, made.shape, expanded=not written)
            )
            return self.arena.place(name, made, strides, written=written)
        return made

    def _made(self, name: str) -> Any:
        batch = self.shape[0]
        like = values(self.rng, self.shape, self.dtype, special=False).clamp(-3, 3)
        if (self.op, name) == ("metropolis_chain", "temperature_rows"):
            return torch.full((self.chain_steps,), 1.5, dtype=torch.float64)
        if name.endswith("_rows"):
            return values(self.rng, (batch,), torch.float64, special=False).abs() + 0.01
        if name == "score_clip":
            return 1.5
        if self.op == "dual_averaging":
            return {
                "steps": torch.zeros((), dtype=torch.float64),
                "warmup": 5,
                "target": 0.6,
                "together": self.rng.random() < 0.5,
            }.get(name, torch.rand(batch, dtype=torch.float64) + 0.1)
        by_name = {
            "name": lambda: torch.tensor([7, 0, 3, 0]),
            "seeds": lambda: torch.arange(batch),
            "ids": lambda: torch.arange(batch) + 5,
            "mask": lambda: like > 0,
            "params": self._params,
            "target": lambda: TARGETS.index(self.target),
            "energy": lambda: torch.zeros(
                batch, dtype=self.work if self.op == "target_energy" else torch.float64
            ),
            "proposal_energy": lambda: torch.zeros(batch, dtype=self.work),
            "accepted": lambda: torch.zeros(batch, dtype=torch.int64),
            "accept": lambda: torch.zeros(batch, dtype=torch.bool),
            "log_alpha": lambda: torch.zeros(batch, dtype=torch.float64),
            "n_steps": lambda: self.chain_steps,
            "n_leapfrog": lambda: 2 if self.hmc else 0,
            "layout": lambda: torch.tensor([0, math.prod(self.shape[1:]), 2, 3, 1, 0, 0, 1, 0, 0, 0]),
            "biases": lambda: torch.zeros(1, 4, dtype=self.work),
            "coefficients": self._coefficients,
            "correctors": lambda: 1,
            "thin": lambda: self.thin,
            "states": lambda: torch.zeros(
                self.chain_steps // (self.thin or 1), *self.shape, dtype=self.dtype
            ),
            "reports": lambda: torch.zeros(
                4 * (self.chain_steps // (self.thin or 1)), batch, dtype=torch.float64
            ),
            "averaging": lambda: torch.rand(4, batch, dtype=torch.float64) + 0.1,
            "marginals": lambda: torch.full((self.chain_steps, 2), 0.5, dtype=torch.float64),
            "averaged": lambda: 1,
            "warmup": lambda: 4,
            "diverged": lambda: torch.zeros(batch, dtype=torch.int64),
            "loss": lambda: torch.zeros(self._loss_shape(), dtype=self.work),
            "grad_output": lambda: torch.ones(self._loss_shape(), dtype=self.work),
            "reduction": lambda: REDUCTIONS[self.reduction],
            "low": lambda: -1.0,
            "high": lambda: 1.0,
        }
        if self.op == "network_laplacian":
            by_name |= {"out": lambda: torch.zeros(batch, dtype=self.work)}
        if self.op in ("network_grad", "network_loss"):
            by_name |= {
                "grad": self._params,
                "grad_biases": by_name["biases"],
                "energy_above": lambda: torch.ones(batch, dtype=self.work),
            }
            by_name |= {"v": lambda: torch.ones(1, math.prod(self.shape[1:]), dtype=self.work)}
            by_name |= {"loss": lambda: torch.zeros(batch, dtype=self.work)}
        if name in by_name:
            return by_name[name]()
        kind = str(next(argument.type for argument in self.schema.arguments if argument.name == name))
        if "Tensor" in kind:
            return like
        return False if "bool" in kind else 0.5

    def _params(self) -> Tensor:
        if self.network:  # the parameters of the layout above
            return torch.full((3 * math.prod(self.shape[1:]) + 10,), 0.1, dtype=self.work)
        numbers = {"harmonic": [1.5, 0.2], "double_well": [4.0, 2.0], "rastrigin": [2.0]}[self.target]
        return torch.tensor(numbers, dtype=self.work)

    def _coefficients(self) -> Tensor:
        shape = (self.chain_steps, 4) if self.op == "predictor_corrector" else (1, 5)
        return torch.full(shape, 0.1, dtype=torch.float64)

    def _loss_shape(self) -> tuple[int, ...]:
        return {"none": self.shape, "sample": self.shape[:1]}.get(self.reduction, ())

    def spoil(self) -> str:
        """Replaces one argument by something else, and says which and by what."""
        argument = self.rng.choice(self.schema.arguments)
        name, kind, before = argument.name, str(argument.type), self.named[argument.name]
        if before is None and "Tensor" in kind:
            before = torch.zeros(self.shape, dtype=self.dtype)
        if isinstance(before, Tensor):
            how, spoilt = self._other_tensor(before)
        elif "int" in kind:
            spoilt = self.rng.choice(
                [number for number in INTS if name != "n_steps" or number != 2**31]
            )  # 2^31 steps would run for hours
            how = str(spoilt)
        elif "bool" in kind:
            spoilt = not before
            how = str(spoilt)
        else:
            spoilt = self.rng.choice(NUMBERS)
            how = str(spoilt)
        self.named[name] = spoilt
        return f"{self.op}: {name} = {how}"

    def _other_tensor(self, t: Tensor) -> tuple[str, Any]:
        rng = self.rng
        kind = rng.choice(("size", "size", "dtype", "dtype", "strides", "other", "device", "none", "odd"))
        if kind == "none":
            return "None", None
        if kind == "size":
            shape = list(t.shape)
            if not shape or rng.random() < 0.2:
                shape = rng.choice(([], [0], [1], [1, 1], [1000]))
            else:
                d = rng.randrange(len(shape))
                shape[d] = rng.choice((0, 1, max(shape[d] - 1, 0), shape[d] + 1, 2 * shape[d]))
                if rng.random() < 0.2:
                    shape = shape[::-1] if rng.random() < 0.5 else [math.prod(shape)]
            return f"shape {shape} for {list(t.shape)}", self._put(torch.ones(shape, dtype=t.dtype))
        if kind == "dtype":
            dtype = rng.choice(DTYPES)
            return f"{dtype} for {t.dtype}", self._put(torch.ones(t.shape).to(dtype))
        if kind == "strides":
            strides = layout(rng, t.shape)
            return f"strides {strides} for {t.stride()}", self._put(t.clone(), strides)
        if kind == "other":  # shares memory with another argument
            others = [value for value in self.named.values() if isinstance(value, Tensor) and value is not t]
            if not others:
                return "None", None
            other = rng.choice(others)
            if rng.random() < 0.5 and other.dim() and other.shape[0] > 1:
                other = other[1:]
            return f"another argument, {tuple(other.shape)} {other.dtype}", other
        if kind == "device":
            return "on meta", torch.empty_like(t, device="meta")
        odd = rng.choice(
            ("zero", "negative", "sparse", "resized", "requires grad", "inference", "nested", "conjugate")
        )
        if odd == "zero":
            return "a zero tensor, which has no memory", torch._efficientzerotensor(
                t.shape, dtype=t.dtype, device="cpu"
            )
        if odd == "negative" and t.is_floating_point():
            return "with the negative bit", torch._neg_view(t.clone())
        if odd == "sparse" and t.dim():
            return "sparse", t.clone().to_sparse()
        if odd == "requires grad" and t.is_floating_point():
            return "that requires grad", t.clone().requires_grad_()
        if odd == "nested" and t.is_floating_point() and t.dim() > 1:
            return "nested", torch.nested.nested_tensor([t.clone()])
        if odd == "conjugate":
            return "conjugate", torch.ones(t.shape, dtype=torch.complex64).conj()
        emptied = t.clone()
        emptied.untyped_storage().resize_(0)
        return "whose storage was freed", emptied

    def _put(self, t: Tensor, strides: list[int] | None = None) -> Tensor:
        return self.arena.place("spoilt", t, list(t.stride()) if strides is None else strides, written=True)
