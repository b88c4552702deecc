"""torchebm's score matching in all forms, with noise that has a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._checks import checked_number
from ..energy import energy_score
from ..losses import denoising_loss, score_matching, sliced_score_matching
from ._draws import Normals, Source, add_noise
from ._fits import fitted
from ._packages import require
from ._torchebm_named import NamedLoss

require("torchebm")
# These imports name the classes' own files: the package loads its names lazily, which type checkers
# can't follow.
from torchebm.losses import score_matching as losses  # noqa: E402


class DenoisingScoreMatching(NamedLoss, losses.DenoisingScoreMatching):
    """torchebm's loss of that name: ``mean_b 1/2 sum_i (grad E(x + sigma z) - z / sigma)^2``, as
    its ``score`` is +grad E.

    Args:
        model, noise_scale, ...: as in torchebm.
        noise: a :class:`pyebm.Noise`, whose step plus k names the noise of the k-th evaluation; a
            function like ``torch.randn_like``; or None, where torch.manual_seed governs it. A
            generator given to the call takes precedence, and gives the bits of torchebm's own loss.

    Example:
        >>> import torch, pyebm
        >>> from torchebm.core import GaussianModel
        >>> from pyebm.integrations.torchebm import DenoisingScoreMatching
        >>> model = GaussianModel(torch.zeros(2), torch.eye(2))
        >>> loss = DenoisingScoreMatching(model, noise_scale=0.1, noise=pyebm.Noise(0))
        >>> loss(torch.randn(64, 2)).shape
        torch.Size([])
    """

    _original = "torchebm.losses.DenoisingScoreMatching"

    def __init__(self, *args: Any, noise: Source = None, **kwargs: Any) -> None:
        super().__init__(*args, noise=noise, **kwargs)
        checked_number("DenoisingScoreMatching", "noise_scale", self.noise_scale, 0.0, open_low=True)

    def compute_loss(
        self,
        x: Tensor,
        *_: Any,
        model_kwargs: dict[str, Any] | None = None,
        generator: torch.Generator | None = None,
        noise: Normals | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The loss, without the regularisation that ``forward`` adds. noise, if given, is used for
        this evaluation."""
        sigma, x = self.noise_scale, self._data("x", x)
        resolved = self._resolve_model_kwargs(model_kwargs, kwargs)
        self._check_condition(x, resolved)
        resolved = self._apply_cfg_dropout(resolved, generator)
        if noise is None:
            noise = self._draws(x) if generator is None else torch.randn_like(x, generator=generator)
        if isinstance(noise, Tensor):
            noise = fitted("DenoisingScoreMatching", noise, x)
        slope = self.compute_score(add_noise(x, sigma, noise), model_kwargs=resolved)
        return denoising_loss(
            slope, noise, kappa=sigma, lam=-1.0, weight=sigma**-2, half=True, reduction="batchmean"
        )


class _Matching(NamedLoss):
    model: Any
    _resolve_model_kwargs: Any
    _check_condition: Any

    def _prepared(
        self, x: Tensor, model_kwargs: dict[str, Any] | None, kwargs: dict[str, Any], generator: Any
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The data, and the score as a function."""
        x = self._data("x", x)
        resolved = self._resolve_model_kwargs(model_kwargs, kwargs)
        self._check_condition(x, resolved)
        resolved = self._apply_cfg_dropout(resolved, generator) or {}

        def score(x: Tensor) -> Tensor:
            return energy_score(lambda y: self.model(y, **resolved), x, create_graph=True)

        return x, score


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
