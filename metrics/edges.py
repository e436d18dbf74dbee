"""Edges of images: Sobel's gradient magnitude and Canny's edge pixels. They know the image and nothing of a model."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from metrics.fill import blurred

_FAINTEST = 1e-3
"""Change per pixel, of images in [0, 1], that rounding alone could make: a quarter of an 8-bit grey level."""


def sobel(x: Tensor) -> Tensor:
    """Magnitude of the intensity's gradient, (n, C, H, W) -> (n, H, W): change per pixel of the channels' mean.

    Sobel's 3x3 differences; the border's pixels are repeated outward. What is too faint to be seen counts as 0.
    """
    right, down = _differences(x.mean(1, keepdim=True))
    magnitude = torch.hypot(right, down).squeeze(1)
    return magnitude.where(magnitude > _FAINTEST, 0.0)


def canny(x: Tensor, *, sigma: float = 1.0, low: float = 0.1, high: float = 0.2) -> Tensor:
    """Canny's edges (1986), (n, C, H, W) -> bool (n, H, W).

    Local maxima, along the gradient in one of four directions, of Sobel's magnitude behind a Gaussian of `sigma`
    pixels, which exceed the share `low` of the image's largest magnitude and are connected to one that exceeds `high`.
    """
    right, down = _differences(blurred(x.mean(1, keepdim=True).double(), sigma))
    magnitude = torch.hypot(right, down)
    largest = magnitude.amax((1, 2, 3), keepdim=True)
    ridge = _is_ridge(magnitude, right, down) & (magnitude > _FAINTEST)
    weak, edges = (ridge & (magnitude > share * largest) for share in (low, high))
    while not torch.equal(edges, grown := dilated(edges.squeeze(1))[:, None] & weak):
        edges = grown
    return edges.squeeze(1)


def dilated(mask: Tensor, by: int = 1) -> Tensor:
    """The mask (n, H, W) and all pixels at most `by` rows and columns from it."""
    window = 2 * by + 1
    return F.max_pool2d(mask[:, None].float(), window, stride=1, padding=by).squeeze(1) > 0


def _differences(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Change per pixel to the right and downwards, (n, 1, H, W) each (Sobel's kernels over 8)."""
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    tall = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    wide = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4
    return (tall[..., 2:] - tall[..., :-2]) / 2, (wide[:, :, 2:] - wide[:, :, :-2]) / 2


def _is_ridge(magnitude: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Whether neither neighbour along the gradient's direction has a larger magnitude."""
    flat, steep = math.tan(math.pi / 8) * right.abs(), math.tan(math.pi / 8) * down.abs()
    across, along = down.abs() <= flat, right.abs() <= steep
    falling = right * down > 0
    highest = torch.where(
        across, _beside(magnitude, 0, 1),
        torch.where(along, _beside(magnitude, 1, 0),
        torch.where(falling, _beside(magnitude, 1, 1), _beside(magnitude, 1, -1))),
    )  # fmt: skip
    # a step between two pixels makes both of them equal: both are edges, whatever rounding and far pixels say
    return magnitude >= highest * (1 - 1e-3)


def _beside(values: Tensor, down: int, right: int) -> Tensor:
    """The larger of the two neighbours at this offset and at the opposite one; 0 outside the image."""
    height, width = values.shape[2:]
    padded = F.pad(values, (1, 1, 1, 1))

    def shifted(rows: int, columns: int) -> Tensor:
        return padded[:, :, 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    return shifted(down, right).maximum(shifted(-down, -right))
