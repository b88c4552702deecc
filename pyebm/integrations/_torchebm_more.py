"""torchebm's score matching in its exact and sliced forms, and its HMC, with noise that has a
name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._checks import check_tensor
from ..energy import energy_score
from ..losses import score_matching, sliced_score_matching
from ..noise import Noise
from ._draws import Draws, Source
from ._packages import require
from ._saved import Saved

require("torchebm")
# The classes' own files: the packages load them lazily, which hides them from type checkers.
from torchebm.losses import score_matching as losses  # noqa: E402
from torchebm.samplers import hmc as samplers  # noqa: E402


class _Matching(Saved):
    device: Any
    dtype: Any
    model: Any
    _resolve_model_kwargs: Any
    _check_condition: Any
    _apply_cfg_dropout: Any

    def __init__(self, *args: Any, noise: Source = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._draws = Draws(noise)

    def _prepared(
        self, x: Tensor, model_kwargs: dict[str, Any] | None, kwargs: dict[str, Any], generator: Any
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The data, and the score as a function."""
        call = type(self).__name__
        check_tensor(call, "x", x)
        if x.is_meta and torch.device(self.device).type != "meta":
            raise ValueError(f"{call}: x must hold numbers, got a tensor on meta")
        resolved = self._resolve_model_kwargs(model_kwargs, kwargs)
        self._check_condition(x, resolved)
        resolved = self._apply_cfg_dropout(resolved, generator) or {}

        def score(x: Tensor) -> Tensor:
            return energy_score(lambda y: self.model(y, **resolved), x, create_graph=True)

        return x.to(device=self.device, dtype=self.dtype), score


class ScoreMatching(_Matching, losses.ScoreMatching):
    """torchebm's loss of that name, right for samples of any shape: ``mean_b sum_i (s_i^2 / 2 +
    ds_i/dx_i)``.

    With ``hessian_method="approx"`` the trace is estimated along vectors of +-1 that the noise
    names, without a bias; torchebm takes a difference quotient at 1e-5, which float32 does not
    resolve, and divides by the dimension. With a generator, or a function for the noise, it is
    torchebm's own.

    Args:
        model, hessian_method, ...: as in torchebm.
        noise: a :class:`pyebm.Noise`, whose step plus k names the noise of the k-th evaluation;
            or None, where torch.manual_seed governs it.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import GaussianModel
        >>> from pyebm.integrations.torchebm import ScoreMatching
        >>> loss = ScoreMatching(GaussianModel(torch.zeros(2), torch.eye(2)))
        >>> x = torch.randn(64, 2)
        >>> torch.testing.assert_close(loss(x), x.square().sum(1).mean() / 2 - 2)
    """

    _original = "torchebm.losses.ScoreMatching"

    def compute_loss(
        self,
        x: Tensor,
        *args: Any,
        model_kwargs: dict[str, Any] | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The loss, without the regularisation that ``forward`` adds."""
        exact = self.hessian_method == "exact"
        if not self.use_autograd or (not exact and (generator is not None or not self._draws.is_ours)):
            theirs: Tensor = super().compute_loss(
                x, *args, model_kwargs=model_kwargs, generator=generator, **kwargs
            )
            return theirs
        x, score = self._prepared(x, model_kwargs, kwargs, generator)
        if exact:
            return score_matching(score, x)
        return score_matching(score, x, "hutchinson", noise=self._draws(x))


class SlicedScoreMatching(_Matching, losses.SlicedScoreMatching):
    """torchebm's loss of that name, right for samples of any shape (torchebm's sums run over the
    last dimension only): ``mean_b mean_v (v'(ds/dx)v + (v's)^2 / 2)``.

    Args:
        model, n_projections, projection_type, ...: as in torchebm.
        noise: a :class:`pyebm.Noise`, whose step plus k names the projections of the k-th
            evaluation; or None, where torch.manual_seed governs it. With a generator, or a
            function for the noise, it is torchebm's own.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import GaussianModel
        >>> from pyebm.integrations.torchebm import SlicedScoreMatching
        >>> model = GaussianModel(torch.zeros(2), torch.eye(2))
        >>> SlicedScoreMatching(model, noise=pyebm.Noise(0))(torch.randn(64, 2)).shape
        torch.Size([])
    """

    _original = "torchebm.losses.SlicedScoreMatching"

    def compute_loss(
        self,
        x: Tensor,
        *args: Any,
        model_kwargs: dict[str, Any] | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The loss, without the regularisation that ``forward`` adds."""
        if not self.use_autograd or generator is not None or not self._draws.is_ours:
            theirs: Tensor = super().compute_loss(
                x, *args, model_kwargs=model_kwargs, generator=generator, **kwargs
            )
            return theirs
        x, score = self._prepared(x, model_kwargs, kwargs, generator)
        return sliced_score_matching(
            score, x, self._draws(x), self.n_projections, self.projection_type, variance_reduced=False
        )


class HamiltonianMonteCarlo(Saved, samplers.HamiltonianMonteCarlo):
    """torchebm's sampler of that name with momenta that a Noise names.

    Args:
        model, step_size, ...: as in torchebm.
        noise: a :class:`pyebm.Noise`, whose step plus k names the momenta of this object's k-th
            proposal; ``torch.randn_like``; or None for torchebm's own draws. A generator given to
            ``sample`` takes precedence.

    The uniforms that accept and reject, and a first state that is not given, come from a
    torch.Generator, which the Noise seeds at each ``sample``: a run is a function of the Noise, but
    a chain's acceptance still depends on its place in the batch. ``pyebm.samplers.HMC`` has no such
    limit.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import GaussianModel
        >>> from pyebm.integrations.torchebm import HamiltonianMonteCarlo
        >>> model = GaussianModel(torch.zeros(2), torch.eye(2))
        >>> sampler = HamiltonianMonteCarlo(model, 0.3, 5, noise=pyebm.Noise(0))
        >>> bool(0.9 < sampler.sample(torch.zeros(1000, 2), n_steps=30).std() < 1.1)
        True
    """

    _original = "torchebm.samplers.HamiltonianMonteCarlo"
    _generator: torch.Generator | None = None  # the one that the Noise seeded, during a run

    def __init__(self, *args: Any, noise: Source = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._draws = Draws(noise)

    def sample(self, *args: Any, generator: torch.Generator | None = None, **kwargs: Any) -> Any:
        """As torchebm's method."""
        source = self._draws.source
        if generator is not None or not isinstance(source, Noise):
            return super().sample(*args, generator=generator, **kwargs)
        first = source.at(step=source.step + self._draws.count, stream=source.stream + 1)
        words = (first.rand((1, 2), dtype=torch.float64) * 2**24).long()[0].tolist()
        self._generator = torch.Generator(self.device).manual_seed(words[0] << 25 | words[1])
        try:
            return super().sample(*args, generator=self._generator, **kwargs)
        finally:
            self._generator = None

    def _initialize_momentum(self, shape: torch.Size, generator: torch.Generator | None = None) -> Tensor:
        if self._draws.source is None or (generator is not None and generator is not self._generator):
            return super()._initialize_momentum(shape, generator)  # type: ignore[no-any-return]
        like = torch.empty(shape, dtype=self.dtype, device=self.device)
        drawn = self._draws(like)
        p: Tensor = (
            drawn.randn(shape, dtype=like.dtype, device=like.device) if isinstance(drawn, Noise) else drawn
        )
        if self.mass is None:
            return p
        mass = torch.as_tensor(self.mass, dtype=p.dtype, device=p.device).sqrt()
        return p * mass.reshape(*[1] * (p.dim() - mass.dim()), *mass.shape)
