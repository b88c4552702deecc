"""Denoising losses whose target is never stored: the DSM loss, and the affine loss, its general
form."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .. import _ops, _schemas
from .._checks import Coefficient, check_samples, coefficient
from .._derivatives import COMPOSED, REVERSE, wanted
from .._dtensor import by_samples
from .._options import check_choice, checked_flag, shown
from .._small_calls import in_one_step
from ..noise import Noise, named
from ._denoising import LossWithGradient, empty_loss, followed, together

Weight = Coefficient | str | None


@in_one_step
@by_samples
def dsm_loss(
    score: Tensor,
    sigma: Coefficient,
    noise: Noise | Tensor,
    *,
    weight: Weight = None,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """Denoising score matching: ``1/2 w_b sum_i (score + z / sigma)^2`` for
    ``score = s(x + sigma z)``.

    Vincent (2011), eq. 9, with the Gaussian target
    ``grad log q(x~|x) = -(x~ - x) / sigma^2 = -z / sigma``; over many noise levels with
    ``weight="sigma2"`` Song & Ermon (2019), eq. 5. It is computed as
    ``1/2 (w_b / sigma^2) sum_i (sigma score + z)^2``, which neither cancels at small sigma nor
    overflows in half precision.

    Equivalent to::

        z = noise.randn(score.shape)
        (0.5 * w * ((score + z / sigma) ** 2).flatten(1).sum(1)).mean()

    Args:
        score: the network's score at the perturbed samples, (B, ...), float16, bfloat16, float32 or
            float64; any strides. Where ``|sigma score|`` exceeds 1.8e19 its square is beyond
            float32 and the loss is infinite (NaN with a weight of 0).
        sigma: the noise's standard deviation, in x's units, > 0, or >= 0 with weight="sigma2",
            which divides by nothing: a number, a tensor of one value per sample, (B,) or (B, 1,
            ...), or one that broadcasts to score, such as (B, T, 1) for a noise level per token.
        noise: the Noise given to :func:`pyebm.perturb` (z is regenerated), or z itself, a tensor
            like score.
        weight: None for 1 (Vincent), "sigma2" for sigma^2 (Song & Ermon), or a number or tensor
            like sigma; one that differs between the elements of a sample (a mask) weighs each of
            them.
        reduction: "batchmean" (sum over elements, mean over samples), "sample" (one value per
            sample), "sum", "mean" (over all elements) or "none" (elementwise). As in torch, the
            mean of an empty batch is NaN, its sum 0.
        backend: None lets the device decide; or a name from :func:`pyebm.backends`.

    Returns:
        The loss, float64 for a float64 score and float32 otherwise. Differentiable in every tensor,
        in both modes, any number of times. With respect to score alone the gradient is made in the
        same pass as the loss, and is the one tensor that is kept.

    Raises:
        TypeError: tensors that are not dense real floating point.
        ValueError: shapes, devices, coefficients, weight or reduction that don't fit; a Noise that
            does not fit the batch.
        RuntimeError: the backend is not available here.

    Example:
        >>> import torch, pyebm
        >>> x, noise, sigma = torch.randn(64, 2), pyebm.Noise(0), 0.5
        >>> net = torch.nn.Linear(2, 2)
        >>> loss = pyebm.dsm_loss(net(pyebm.perturb(x, sigma, noise)), sigma, noise)
        >>> loss.backward()
    """
    check_samples("dsm_loss", "score", score)
    over_sigma2, check_sigma = not isinstance(weight, str), None
    kappa, kappa_rows = coefficient("dsm_loss", "sigma", sigma, score, low=0.0, open_low=over_sigma2)
    if weight is None:
        weight = 1.0
    elif isinstance(weight, str):
        if weight != "sigma2":
            raise ValueError(
                f"dsm_loss: weight must be None, 'sigma2', a number or a tensor (B,), got {shown(weight)}"
            )
        weight = 1.0
        check_sigma = None if kappa_rows is None else True  # no division by it, but it must be >= 0
    weight, weight_rows = coefficient("dsm_loss", "weight", weight, score)
    numbers = (kappa, 1.0, 0.0, weight, 0.5, over_sigma2)
    rows = (kappa_rows, None, None, weight_rows)
    return denoising("dsm_loss", "score", score, noise, None, numbers, rows, reduction, backend, check_sigma)


@in_one_step
@by_samples
def denoising_loss(
    pred: Tensor,
    noise: Noise | Tensor,
    *,
    kappa: Coefficient = 1.0,
    lam: Coefficient = -1.0,
    mu: Coefficient = 0.0,
    x0: Tensor | None = None,
    weight: Coefficient | None = None,
    half: bool = False,
    reduction: str = "mean",
    backend: str | None = None,
) -> Tensor:
    """The affine denoising loss ``w_b (kappa pred + lam z + mu x0)^2``, optionally halved. The
    usual denoising losses are cases of it.

    ============================  ======  ==============  ==================
    prediction                    kappa   lam             mu
    ============================  ======  ==============  ==================
    noise, epsilon (DDPM)         1       -1              0
    velocity v (Salimans & Ho)    1       -sqrt(abar)     sqrt(1 - abar), x0
    data x0; EDM's denoiser       1       0               -1, x0
    score (Song & Ermon)          sigma   1               0
    flow matching                 1       -1              1, x0
    ============================  ======  ==============  ==================

    Equivalent to ``(w * (kappa * pred + lam * noise.randn(pred.shape) + mu * x0) ** 2).mean()``.

    Args:
        pred: the network's prediction (B, ...), float16, bfloat16, float32 or float64; any strides.
        noise: the Noise that perturbed the samples (z is regenerated), or z itself, a tensor like
            pred.
        kappa, lam, mu: finite numbers, or tensors like sigma of :func:`dsm_loss` with finite values
            (checked on the CPU).
        x0: the clean samples, like pred; needed where mu is not 0.
        weight: w, a number or a tensor in the same way; one that differs between the elements of a
            sample (a mask) weighs each of them. None is 1.
        half: multiply by 1/2.
        reduction: "mean" (over all elements), "batchmean", "sample", "sum" or "none", as in
            :func:`dsm_loss`.
        backend: None lets the device decide; or a name from :func:`pyebm.backends`.

    Returns and raises as :func:`dsm_loss`; ValueError too where mu is given without x0.

    Example:
        >>> import torch, pyebm
        >>> noise = pyebm.Noise(0)
        >>> pyebm.denoising_loss(noise.randn((4, 3)), noise).item()  # the perfect prediction
        0.0
    """
    op = "denoising_loss"
    check_samples(op, "pred", pred)
    pairs = [
        coefficient(op, name, value, pred)
        for name, value in (
            ("kappa", kappa),
            ("lam", lam),
            ("mu", mu),
            ("weight", 1.0 if weight is None else weight),
        )
    ]
    if x0 is None and (isinstance(mu, Tensor) or mu != 0.0):
        raise ValueError("denoising_loss: x0 must be given where mu is not 0, got None")
    numbers = (*(number for number, _ in pairs), 0.5 if checked_flag(op, "half", half) else 1.0, False)
    return denoising(
        op, "pred", pred, noise, x0, numbers, tuple(rows for _, rows in pairs), reduction, backend
    )


def denoising(
    op: str,
    pred_name: str,
    pred: Tensor,
    noise: Noise | Tensor,
    x0: Tensor | None,
    numbers: tuple[Any, ...],
    rows: tuple[Tensor | None, ...],
    reduction: str,
    backend: str | None,
    check_sigma: bool | None = None,
) -> Tensor:
    """The loss of the checked coefficients: from the kernel, where autograd follows with a node of
    its own, and where more follows with the derivatives of composed operations."""
    check_choice(op, "reduction", reduction, _schemas.REDUCTIONS)
    code = _schemas.REDUCTIONS[reduction]
    z = name = seeds = ids = None
    if isinstance(noise, Noise):
        name, seeds, ids = named(op, noise, pred)
    elif isinstance(noise, Tensor):
        z = noise
    else:
        raise TypeError(f"{op}: noise must be a Noise or a tensor, got {type(noise).__name__}")
    if z is not None or x0 is not None:
        pred, z, x0 = together(op, pred_name, pred, z, x0)
    kernels = _ops.kernels(backend, pred)
    head, tail = (*numbers, code, name), (*rows, z, x0, seeds, ids, check_sigma)
    follows = wanted(pred, *rows, z, x0, seeds, ids)
    if follows == COMPOSED:
        return followed(pred, kernels, code, head, tail, noise, backend)
    if follows == REVERSE:
        result: Tensor = LossWithGradient.apply(pred, kernels, head, tail)  # type: ignore[no-untyped-call]
        return result
    loss = empty_loss(pred, code)
    _ops.call(kernels["denoising_loss"], (loss, None, pred, *head), tail)
    return loss


class DSMLoss(nn.Module):
    """:func:`dsm_loss` as a module, as ``nn.MSELoss`` is of ``mse_loss``. A call raises what that
    function raises.

    Example:
        >>> import torch, pyebm
        >>> loss = pyebm.losses.DSMLoss(weight="sigma2")
        >>> loss(torch.zeros(4, 2), 0.5, pyebm.Noise(0)).shape
        torch.Size([])
    """

    weight: Weight
    reduction: str
    backend: str | None

    def __init__(
        self, *, weight: Weight = None, reduction: str = "batchmean", backend: str | None = None
    ) -> None:
        super().__init__()
        self.weight, self.reduction, self.backend = weight, reduction, backend

    def forward(self, score: Tensor, sigma: Coefficient, noise: Noise | Tensor) -> Tensor:
        return dsm_loss(
            score, sigma, noise, weight=self.weight, reduction=self.reduction, backend=self.backend
        )

    def extra_repr(self) -> str:
        return f"weight={self.weight!r}, reduction={self.reduction!r}"


class DenoisingLoss(nn.Module):
    """:func:`denoising_loss` as a module. The coefficients follow the noise level, so each call
    gives them; it raises what that function raises.

    Example:
        >>> import torch, pyebm
        >>> loss = pyebm.losses.DenoisingLoss(reduction="sample")
        >>> loss(torch.zeros(4, 2), pyebm.Noise(0), lam=-1.0).shape
        torch.Size([4])
    """

    halved: bool
    reduction: str
    backend: str | None

    def __init__(self, *, half: bool = False, reduction: str = "mean", backend: str | None = None) -> None:
        super().__init__()
        # The name is not half, since nn.Module has a method of that name.
        self.halved, self.reduction, self.backend = half, reduction, backend

    def forward(
        self,
        pred: Tensor,
        noise: Noise | Tensor,
        *,
        kappa: Coefficient = 1.0,
        lam: Coefficient = -1.0,
        mu: Coefficient = 0.0,
        x0: Tensor | None = None,
        weight: Coefficient | None = None,
    ) -> Tensor:
        return denoising_loss(
            pred,
            noise,
            kappa=kappa,
            lam=lam,
            mu=mu,
            x0=x0,
            weight=weight,
            half=self.halved,
            reduction=self.reduction,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        return f"half={self.halved}, reduction={self.reduction!r}"
