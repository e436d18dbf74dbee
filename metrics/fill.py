"""What removed pixels become: one vocabulary for measures that take pixels away and for training on masked images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from metrics.randomness import Draws

Fill = Literal["zero", "mean", "noise", "blur", "noisy_linear"]


def filled(x: Tensor, removed: Tensor, fill: Fill, *, mean: Tensor, draws: Draws) -> Tensor:
    """The images (n, C, H, W) in [0, 1] with removed pixels replaced, in all channels; what is kept stays as it is.

    `removed` (n, H, W) is a mask, or the share in [0, 1] of each pixel that is replaced. Every image is filled by
    itself, with the random numbers of its `draws`.

    zero: black. mean: the colour `mean` (C,), usually that of the training images. noise: uniform between the darkest
    and the brightest value of the image (Ismail et al. 2021). blur: the image behind a Gaussian of 3 pixels, which
    still holds what was removed. noisy_linear: noisy linear imputation (Rong et al. 2022, ROAD): the weighted mean of
    the eight neighbours, removed ones included, plus normal noise of 0.01, cut to [0, 1]; `mean` if nothing is kept.
    A constant fill tells a retrained model the shape of the mask; noisy_linear is made to hide it.
    """
    filling = _FILLS[fill](x, removed > 0, mean.view(1, -1, 1, 1), draws.fork("fill"))
    share = removed[:, None].to(x.dtype)
    return (1 - share) * x + share * filling


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Images (n, C, H, W) behind a Gaussian of `sigma` pixels, renormalised where it leaves the image."""
    rows, columns = (_gaussian(size, sigma, x) for size in x.shape[2:])
    return rows @ x @ columns.T


def _gaussian(size: int, sigma: float, like: Tensor) -> Tensor:
    """Weights (size, size), row i those of the pixels around i."""
    at = torch.arange(size, dtype=like.dtype, device=like.device)
    return (-0.5 * ((at[:, None] - at) / sigma).square()).softmax(1)


def _noise(x: Tensor, removed: Tensor, mean: Tensor, draws: Draws) -> Tensor:
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return low + (high - low) * draws.uniform(*x.shape[1:])


def _noisy_linear(x: Tensor, removed: Tensor, mean: Tensor, draws: Draws) -> Tensor:
    interpolated = _interpolated(torch.where(removed[:, None], mean, x), removed[:, None])
    return (interpolated + 0.01 * draws.normal(*x.shape[1:])).clamp(0, 1)


def _interpolated(image: Tensor, unknown: Tensor) -> Tensor:
    """The image (n, C, H, W) with unknown pixels (n, 1, H, W) at the weighted mean of their neighbours.

    The system is sparse, symmetric and positive definite, so conjugate gradients from the given values solve it for the
    whole batch at once, without a matrix (a dense one has (H W)^2 entries an image). An image is done when none of its
    unknown pixels is further than 1e-6 from the mean of its neighbours.
    """
    total = _neighbours(torch.ones_like(image))

    def beyond(values: Tensor) -> Tensor:
        """How far each unknown pixel is above its neighbours."""
        return unknown * (total * values - _neighbours(values))

    residual = -beyond(image)
    direction, size = residual, _dot(residual, residual)
    for _ in range(image[0, 0].numel()):  # as many steps as unknowns would solve it exactly
        unsolved = residual.abs().amax((1, 2, 3), keepdim=True) > 1e-6
        if not unsolved.any():
            break
        slope = beyond(direction)
        # an image that is done stays as it is, however long the others of its batch take
        length = unsolved * size / _dot(direction, slope).clamp_min(1e-30)
        image = image + length * direction
        residual = residual - length * slope
        before, size = size, _dot(residual, residual)
        direction = residual + size / before.clamp_min(1e-30) * direction
    return image


def _neighbours(image: Tensor) -> Tensor:
    """Sum of a pixel's neighbours in the image, 1/6 of each beside it and 1/12 of each diagonal one, shape kept."""
    # means over 2x2 squares, twice, weigh 3x3 pixels by [1, 2, 1] x [1, 2, 1] / 16: all but the middle is as wanted
    square = F.avg_pool2d(F.avg_pool2d(image, 2, stride=1, padding=1), 2, stride=1)
    return (4 * square - image) / 3


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Inner product over the pixels of each channel, (n, C, 1, 1)."""
    return (one * other).sum((2, 3), keepdim=True)


# (x, removed (n, H, W) bool, mean (1, C, 1, 1), draws) -> what removed pixels become, broadcastable to x
_FILLS: dict[str, Callable[[Tensor, Tensor, Tensor, Draws], Tensor]] = {
    "zero": lambda x, removed, mean, draws: torch.zeros_like(x),
    "mean": lambda x, removed, mean, draws: mean,
    "noise": _noise,
    "blur": lambda x, removed, mean, draws: blurred(x, 3.0),
    "noisy_linear": _noisy_linear,
}
