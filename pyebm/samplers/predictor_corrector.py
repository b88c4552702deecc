"""PredictorCorrector: the reverse diffusion, time by time, with Langevin steps that correct the
marginal at each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _composed, _ops
from .._options import check_callable, check_choice, checked_count, checked_flag
from ..noise import Noise, as_noise
from ..targets._learned import Learned
from ._body import Body
from ._chained import Chained
from ._density import score_at
from ._known import Known
from ._loop import Sampler
from ._plain import PlainCorrector, PlainStep
from ._run import NAN, Bounds, Run, number
from ._step_options import StepOptions
from .sde import SDE, Coefficients

PREDICTORS = ("reverse_diffusion", "euler_maruyama", "ancestral", None)


class PredictorCorrector(Sampler):
    """Predictor-corrector sampling of a diffusion's reverse (Song et al. 2021, "Score-based
    generative modeling through SDEs").

    At each of n times from 1 down to ``sde.eps`` it takes ``corrector_steps`` steps of Langevin
    dynamics, then the predictor's step to the next time. A corrector's step is
    ``x + eps s + sqrt(2 eps) z``
    with ``eps = 2 alpha (snr |z| / |s|)^2``, where alpha is 1 for VE and ``1 - beta`` for VP and
    subVP. The norms are reduced on the device by the loss kernel.

    Args:
        score_fn: ``score_fn(x, t)`` with t a tensor (B,) in [0, 1]; returns grad log p_t(x).
        sde: :class:`VE`, :class:`VP` or :class:`SubVP`.
        n: the number of times, >= 2.
        predictor: "reverse_diffusion", "euler_maruyama", "ancestral" (VE and VP), or None for none.
        corrector_steps: Langevin steps at each time, >= 0.
        snr: the corrector's signal-to-noise ratio, > 0.
        per: "batch" takes the norms' means over the batch, as published; "sample" each sample's own
            norms, so that a sample does not depend on its batch.
        probability_flow: the predictor follows the probability-flow ODE (half the score, no noise).
        denoise: the predictor's last step adds no noise.
        known: data (B, ...) to paint in (score_sde's controllable generation): before every look at
            the score, elements where ``mask`` is False are set to ``alpha(t) known + sigma(t) z``,
            at the end to ``known``.
        clamp: (low, high), numbers or tensors that broadcast to x.
        mask, backend: as in :func:`pyebm.affine_step`.

    It is called as every sampler (docs/samplers.md), and resumed as :class:`AnnealedLangevin`;
    start it from :meth:`prior`. The predictor draws from the noise's own stream, the correctors
    from stream + 1, ..., + corrector_steps, ``known`` from the corrector_steps + 1 streams after
    those.

    Raises TypeError and ValueError for arguments outside these types and ranges.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.samplers import VP, PredictorCorrector
        >>> sde = VP()
        >>> def score(x, t):  # of standard normal data: every marginal is standard normal
        ...     return -x
        >>> sampler = PredictorCorrector(score, sde, 100)
        >>> x = sampler(sampler.prior((500, 2), pyebm.Noise(0)), noise=pyebm.Noise(1))
        >>> bool(0.9 < x.std() < 1.1)
        True
    """

    score_fn: Callable[[Tensor, Tensor], Tensor]
    sde: SDE
    corrector_steps: int
    per: str
    known: Tensor | None
    snr: float
    predictor: str | None
    probability_flow: bool
    denoise: bool
    options: StepOptions
    length: int
    times: list[float]
    marginals: list[tuple[float, float, float]]
    updates: list[Coefficients]

    def __init__(
        self,
        score_fn: Callable[[Tensor, Tensor], Tensor],
        sde: SDE,
        n: int,
        *,
        predictor: str | None = "reverse_diffusion",
        corrector_steps: int = 1,
        snr: float = 0.16,
        per: str = "batch",
        probability_flow: bool = False,
        denoise: bool = True,
        known: Tensor | None = None,
        clamp: Bounds | None = None,
        mask: Tensor | None = None,
        backend: str | None = None,
    ) -> None:
        call = "PredictorCorrector"
        check_callable(call, "score_fn", score_fn, "a function of x and t")
        if not isinstance(sde, SDE):
            raise TypeError(f"{call}: sde must be VE, VP or SubVP, got {type(sde).__name__}")
        n = checked_count(call, "n", n, 2)
        check_choice(call, "predictor", predictor, PREDICTORS)
        corrector_steps = checked_count(call, "corrector_steps", corrector_steps)
        if predictor is None and corrector_steps == 0:
            raise ValueError(f"{call}: corrector_steps must be >= 1 without a predictor, got 0")
        check_choice(call, "per", per, ("batch", "sample"))
        probability_flow = checked_flag(call, "probability_flow", probability_flow)
        denoise = checked_flag(call, "denoise", denoise)
        if probability_flow and predictor not in ("reverse_diffusion", "euler_maruyama"):
            raise ValueError(
                f"{call}: probability_flow needs the reverse_diffusion or euler_maruyama predictor, got"
                f" {predictor!r}"
            )
        self.score_fn, self.sde, self.corrector_steps, self.per, self.known = (
            score_fn,
            sde,
            corrector_steps,
            per,
            known,
        )
        self.snr = number(call, "snr", snr)
        self.predictor, self.probability_flow, self.denoise = predictor, probability_flow, denoise
        self.options = StepOptions(clamp=clamp, mask=mask, backend=backend)
        self.n = self.length = n
        self.times = [1.0 + k * (sde.eps - 1.0) / (n - 1) for k in range(n)]
        # For each time: the factor of the corrector's |z|^2 / |s|^2, and the marginal's alpha and
        # sigma.
        corrected = sde.corrector_alpha if corrector_steps else lambda _t, _n: 1.0
        self.marginals = [
            (2.0 * self.snr**2 * corrected(t, n), sde.alpha(t), sde.sigma(t)) for t in self.times
        ]
        self.updates = [self._update(t) for t in self.times]
        if denoise:
            self.updates[-1] = self.updates[-1]._replace(c=0.0)

    def _update(self, t: float) -> Coefficients:
        if self.predictor is None:
            return Coefficients(1.0, 0.0, 0.0)
        if self.predictor == "ancestral":
            return self.sde.ancestral(t, len(self))
        step = (
            self.sde.reverse_diffusion if self.predictor == "reverse_diffusion" else self.sde.euler_maruyama
        )
        return step(t, len(self), self.probability_flow)

    def __len__(self) -> int:
        """The number of times."""
        return self.length or 0

    def prior(
        self,
        shape: Sequence[int],
        noise: Noise | int | torch.Generator,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """The state from which sampling starts: ``prior_std`` times the noise's normals. Give the
        run another seed or stream."""
        noise = as_noise("PredictorCorrector.prior", noise)
        return self.sde.prior_std * noise.randn(
            shape, dtype=dtype, device=device, backend=self.options.backend
        )

    def _body(self, run: Run) -> Body:
        target, options = self.score_fn, self.options
        here = _ops.on_host(options.backend, run.x) and not run.graph
        if here and isinstance(target, Learned) and target.condition and options.fits_a_chain(target, run):
            return _Chain(run, self, target)
        return _Steps(run, self)


class _Steps(Body):
    def __init__(self, run: Run, sampler: PredictorCorrector) -> None:
        super().__init__(run)
        options, kernels = sampler.options, run.kernels(sampler.options.backend)
        self.sampler, self.correctors, self.together = (
            sampler,
            sampler.corrector_steps,
            sampler.per == "batch",
        )
        self.score_fn = score_at(run, sampler.score_fn, options.backend)
        self.affine, self.after = kernels["affine_step"], options.after(run)
        # In a graph the factor is a tensor, which only the composed operation takes.
        ops = _composed.around(kernels) if run.graph else kernels
        self.corrector = ops["corrector_step"]
        one = run.rows(1.0)
        self.tail, self.row_tail = options.tail(run, None, None, None), options.tail(run, one, one, one)[3:]
        _, mask, low, high, _, *named = self.row_tail
        self.corrector_tail = (mask, low, high, *named)
        self.known = None if sampler.known is None else Known(run, sampler.known, options)
        self.streams = 1 + self.correctors + (0 if self.known is None else self.correctors + 1)
        self.plain = None if run.graph else PlainStep.for_run(run, options.backend, self.tail)
        self.plain_correctors: list[PlainCorrector] = []
        if self.plain is not None:
            self.takes_names = False
            self.plain_correctors = [PlainCorrector(run, 1 + j) for j in range(self.correctors)]
        if run.graph:
            columns = zip(sampler.times, sampler.marginals, sampler.updates, strict=True)
            self.table = run.table([(t, *marginal, *update) for t, marginal, update in columns])

    def step(self, names: Sequence[Tensor], k: int | None) -> None:
        sampler = self.sampler
        # These are numbers if the host counts the steps; in a graph they are tensors of one
        # element, from the table.
        factor: Any
        mean: Any
        std: Any
        update: Any
        if k is None:
            t, factor, mean, std, *update = self.table.index_select(0, names[0].narrow(0, 2, 1)).unbind(1)
            time = t.to(self.run.work).expand(self.x.shape[0])
        else:
            (factor, mean, std), update = sampler.marginals[k], sampler.updates[k]
            time = self.run.rows(sampler.times[k], self.run.work)
        for j in range(self.correctors):
            self._correct(self._score(time, mean, std, names, j), factor, names, k, j)
            if self.after is not None:
                self.after()
        if sampler.predictor is not None:
            self._predict(self._score(time, mean, std, names, self.correctors), update, names, k)
            if self.after is not None:
                self.after()

    def _score(self, time: Tensor, mean: Any, std: Any, names: Sequence[Tensor], j: int) -> Tensor:
        if self.known is not None:
            self.known.impose(mean, std, names[1 + self.correctors + j])
        return self.score_fn(self.x, time)

    def _correct(self, score: Tensor, factor: Any, names: Sequence[Tensor], k: int | None, j: int) -> None:
        if self.plain_correctors and k is not None:
            plain = self.plain_correctors[j]
            plain.set(factor, self.together)
            if plain(score, k):
                return
        head = (self.x, self.fits(score), factor, self._name(names, k, 1 + j), self.together)
        _ops.call(self.corrector, head, self.corrector_tail)

    def _predict(self, score: Tensor, update: Any, names: Sequence[Tensor], k: int | None) -> None:
        if k is None:
            self.affine(self.x, None, self.fits(score), NAN, NAN, NAN, names[0], *update, *self.row_tail)
            return
        if self.plain is not None:
            self.plain.set(*update)
            if self.plain(score, k):
                return
        self.affine(self.x, None, self.fits(score), *update, self._name(names, k, 0), *self.tail)

    def _name(self, names: Sequence[Tensor], k: int | None, stream: int) -> Tensor:
        return self.run.name(k, stream) if k is not None and not names else names[stream]

    def finish(self) -> None:
        if self.known is not None:
            self.known.finish()

    def info(self, k: int) -> dict[str, Any]:
        return {"t": self.sampler.times[k], "sigma": self.sampler.marginals[k][2]}


class _Chain(Chained, _Steps):
    """The body around a learned target: one kernel takes many times, each with a row of biases of
    its own."""

    def __init__(self, run: Run, sampler: PredictorCorrector, target: Learned) -> None:
        super().__init__(run, sampler)
        times = torch.tensor(sampler.times, dtype=run.work, device=run.x.device)
        self.numbers = run.plain(target._at_levels(run.call, run.x, times))
        self.params = self.numbers.params
        self.kernel = run.kernels(sampler.options.backend)["predictor_corrector"]
        rows = zip(sampler.marginals, sampler.updates, strict=True)
        self.coefficients = run.table([(factor, *update) for (factor, *_), update in rows])
        mask, low, high, _ = sampler.options.of_a_chain(run)
        self.options = (mask, low, high, run.seeds, run.ids)

    def at_once(self) -> int:
        return max(super().at_once() // (self.correctors + 1), 1)

    def launch(self, first: int, count: int, name: Tensor, states: Tensor | None, thin: int | None) -> None:
        which, params, biases = self.numbers.which, self.params, self.numbers.biases
        assert biases is not None
        now, table = biases.narrow(0, first, count), self.coefficients.narrow(0, first, count)
        steps = (count, self.correctors, self.sampler.predictor is not None, self.together)
        known: tuple[Tensor, ...] = ()
        if self.known is not None:
            known = self.known.of_chain([of[1:] for of in self.sampler.marginals[first : first + count]])
        self.kernel(self.x, which, params, now, table, *steps, name, states, thin, *self.options, *known)
