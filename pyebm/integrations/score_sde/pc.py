"""score_sde's predictor-corrector samplers: plain, inpainting and colouring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..._checks import check_samples, checked_number
from ..._modes import without_grad
from ..._options import check_callable, checked_count, checked_flag
from .._draws import Draws, Source, add_noise
from ._scores import BASIS, PRIOR, prior, score_function, times_of
from ._sde import CORRECTORS, PREDICTORS, check_known, on_stream, ones_for
from .bases import Corrector, Predictor

Update = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# A function that puts the known part of an image, noised for the time, into x: (x, time) -> x and
# its mean.
Known = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class _Sampler:
    """The options that the three samplers share, and their loop."""

    def __init__(
        self,
        call: str,
        sde: Any,
        predictor: Any,
        corrector: Any,
        inverse_scaler: Any,
        snr: float,
        n_steps: int,
        probability_flow: bool,
        continuous: bool,
        denoise: bool,
        eps: float,
        noise: Source,
    ) -> None:
        check_known(call, sde)
        for name, value in (("predictor", predictor), ("corrector", corrector)):
            if value is not None:
                check_callable(call, name, value, "a class or None")
        check_callable(call, "inverse_scaler", inverse_scaler)
        self.call, self.sde, self.inverse_scaler = call, sde, inverse_scaler
        self.snr, self.eps = checked_number(call, "snr", snr, 0.0), checked_number(call, "eps", eps, 0.0)
        if not self.eps < sde.T:
            raise ValueError(f"{call}: eps must be below the SDE's T={sde.T}, got {eps}")
        self.n_steps = checked_count(call, "n_steps", n_steps)
        self.flow, self.continuous, self.denoise = (
            checked_flag(call, name, value)
            for name, value in (
                ("probability_flow", probability_flow),
                ("continuous", continuous),
                ("denoise", denoise),
            )
        )
        self.noise = noise
        self._predictor = _with_draws(predictor, Predictor, on_stream(noise, PREDICTORS))
        self._corrector = _with_draws(corrector, Corrector, on_stream(noise, CORRECTORS))
        self.known_draws = Draws(on_stream(noise, PRIOR + 1))

    def updates(self, model: Any) -> list[Update]:
        """The corrector's and the predictor's, in the order in which they are made."""
        score = score_function(self.call, self.sde, model, self.continuous)
        none: Update = lambda x, _: (x, x)  # noqa: E731
        return [
            none
            if self._corrector is None
            else self._corrector(self.sde, score, self.snr, self.n_steps).update_fn,
            none if self._predictor is None else self._predictor(self.sde, score, self.flow).update_fn,
        ]

    def run(self, model: Any, x: Tensor, known: Known | None = None) -> Any:
        updates, mean = self.updates(model), x
        for t in times_of(self.sde, self.eps, x.device):
            each = t.expand(len(x))
            for update in updates:
                x, mean = update(x, each)
                if known is not None:
                    x, mean = known(x, each)
        return self.inverse_scaler(mean if self.denoise else x)


def get_pc_sampler(
    sde: Any,
    shape: Sequence[int],
    predictor: Any,
    corrector: Any,
    inverse_scaler: Callable[[Tensor], Any],
    snr: float,
    n_steps: int = 1,
    probability_flow: bool = False,
    continuous: bool = False,
    denoise: bool = True,
    eps: float = 1e-3,
    device: torch.device | str = "cuda",
    *,
    noise: Source = None,
) -> Callable[[Any], tuple[Any, int]]:
    """``sampler(model) -> (samples, evaluations)``, score_sde's function of that name.

    Args:
        sde, ..., device: as in score_sde. predictor and corrector are classes, theirs, yours or
            those of this module; None leaves one out.
        noise: a :class:`pyebm.Noise`, which names the first state and what the classes of this
            module draw; a function like ``torch.randn_like``; or None, where torch.manual_seed
            governs it. Classes from :func:`predictors` and :func:`correctors` have theirs already.
            Each run of the sampler goes on in the noise, from a first state of the same name.

    Example:
        >>> import torch, pyebm
        >>> from pyebm.integrations import score_sde
        >>> class VE:
        ...     T, N, discrete_sigmas = 1, 20, torch.logspace(-2, 1, 20)
        ...     def marginal_prob(self, x, t):
        ...         return x, 0.01 * 1000**t
        ...     def discretize(self, x, t):
        ...         k = (t * 19).long()
        ...         before = torch.where(k == 0, 0.0, self.discrete_sigmas[k - 1])
        ...         return torch.zeros_like(x), (self.discrete_sigmas[k] ** 2 - before**2).sqrt()
        >>> model = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)
        >>> classes = score_sde.ReverseDiffusionPredictor, score_sde.LangevinCorrector
        >>> sampler = score_sde.get_pc_sampler(
        ...     VE(), (1000, 2), *classes, lambda x: x, snr=0.1, continuous=True, device="cpu",
        ...     noise=pyebm.Noise(0),
        ... )
        >>> x, evaluations = sampler(model)
        >>> x.shape, evaluations
        (torch.Size([1000, 2]), 40)
    """
    sampler = _Sampler(
        "get_pc_sampler", sde, predictor, corrector, inverse_scaler, snr, n_steps, probability_flow,
        continuous, denoise, eps, noise,
    )  # fmt: skip

    @without_grad
    def pc_sampler(model: Any) -> tuple[Any, int]:
        x = prior("get_pc_sampler", sde, shape, device, noise)
        return sampler.run(model, x), sde.N * (sampler.n_steps + 1)

    return pc_sampler


def get_pc_inpainter(
    sde: Any,
    predictor: Any,
    corrector: Any,
    inverse_scaler: Callable[[Tensor], Any],
    snr: float,
    n_steps: int = 1,
    probability_flow: bool = False,
    continuous: bool = False,
    denoise: bool = True,
    eps: float = 1e-5,
    *,
    noise: Source = None,
) -> Callable[[Any, Tensor, Tensor], Any]:
    """``inpainter(model, data, mask) -> images``, score_sde's function of that name: after each
    update the pixels whose mask is 1 are set to data, noised to the update's time.

    Arguments as for :func:`get_pc_sampler`.
    """
    call = "get_pc_inpainter"
    sampler = _Sampler(
        call, sde, predictor, corrector, inverse_scaler, snr, n_steps, probability_flow, continuous,
        denoise, eps, noise,
    )  # fmt: skip

    @without_grad
    def pc_inpainter(model: Any, data: Tensor, mask: Tensor) -> Any:
        check_samples(call, "data", data)
        check_samples(call, "mask", mask)
        first = prior(call, sde, tuple(data.shape), data.device, noise)
        known = partial(_inpainted, sampler, data, mask)
        return sampler.run(model, data * mask + first * (1 - mask), known)

    return pc_inpainter


def get_pc_colorizer(
    sde: Any,
    predictor: Any,
    corrector: Any,
    inverse_scaler: Callable[[Tensor], Any],
    snr: float,
    n_steps: int = 1,
    probability_flow: bool = False,
    continuous: bool = False,
    denoise: bool = True,
    eps: float = 1e-5,
    *,
    noise: Source = None,
) -> Callable[[Any, Tensor], Any]:
    """``colorizer(model, gray_scale_img) -> images``, score_sde's function of that name: inpainting
    in an orthonormal basis of the colours whose first component is gray.

    Arguments as for :func:`get_pc_sampler`; images are (B, 3, H, W).
    """
    call = "get_pc_colorizer"
    sampler = _Sampler(
        call, sde, predictor, corrector, inverse_scaler, snr, n_steps, probability_flow, continuous,
        denoise, eps, noise,
    )  # fmt: skip

    @without_grad
    def pc_colorizer(model: Any, gray_scale_img: Tensor) -> Any:
        check_samples(call, "gray_scale_img", gray_scale_img)
        if gray_scale_img.dim() != 4 or gray_scale_img.shape[1] != 3:
            raise ValueError(
                f"{call}: gray_scale_img must be (B, 3, H, W), got {tuple(gray_scale_img.shape)}"
            )
        basis = torch.tensor(BASIS, dtype=gray_scale_img.dtype, device=gray_scale_img.device)

        def decoupled(x: Tensor) -> Tensor:
            return torch.einsum("bihw,ij->bjhw", x, basis)

        def coupled(x: Tensor) -> Tensor:
            return torch.einsum("bjhw,ij->bihw", x, basis)

        gray = decoupled(gray_scale_img)
        mask = torch.zeros_like(gray)
        mask[:, :1] = 1
        first = prior(call, sde, tuple(gray.shape), gray.device, noise)

        def known(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            x, mean = _inpainted(sampler, gray, mask, decoupled(x), t)
            return coupled(x), coupled(mean)

        return sampler.run(model, coupled(gray * mask + decoupled(first) * (1 - mask)), known)

    return pc_colorizer


def _inpainted(sampler: _Sampler, data: Tensor, mask: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    factor, std = sampler.sde.marginal_prob(ones_for(data), t)
    noised = add_noise(data, std, sampler.known_draws(data), alpha=factor)
    x = x * (1 - mask) + noised * mask
    return x, x * (1 - mask) + data * factor * mask


def _with_draws(given: Any, ours: type[Predictor | Corrector], source: Source) -> Any:
    """The class with the sampler's own draws, if it is one of ours, and not given draws before."""
    if isinstance(given, type) and issubclass(given, ours):
        return partial(given, noise=Draws(source))
    return given
