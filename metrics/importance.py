"""From maps to importance: one number per pixel, and the most important pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from metrics.fill import blurred
from metrics.randomness import Draws

Reduction = Literal["sum_abs", "abs_sum", "sum", "max_abs", "l2"]

_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum_abs": lambda maps: maps.abs().sum(1),
    "abs_sum": lambda maps: maps.sum(1).abs(),
    "sum": lambda maps: maps.sum(1),
    "max_abs": lambda maps: maps.abs().amax(1),
    # in float64: the squares of a map of 1e-25 are 0 in float32
    "l2": lambda maps: maps.double().norm(dim=1).to(maps.dtype),
}


def pixel_map(maps: Tensor, reduction: Reduction = "sum_abs") -> Tensor:
    """Importance of each pixel, (n, C, H, W) -> (n, H, W).

    sum_abs: absolute values summed over the channels. abs_sum: the channels' sum, absolute. sum: the same with its
    sign, so that what speaks against the class comes last. max_abs and l2: the channels' largest absolute value, and
    their Euclidean length. On one channel all but `sum` rank pixels alike.
    """
    return _REDUCTIONS[reduction](maps)


def softened(maps: Tensor) -> Tensor:
    """Maps (n, C, H, W) behind a Gaussian of 1/16 of the image's shorter side, at least one pixel.

    Blurring adds no information, so a measure that prefers the blurred map rewards smoothness.
    """
    return blurred(maps, max(1.0, min(maps.shape[2:]) / 16))


def places(importance: Tensor, draws: Draws) -> Tensor:
    """Each pixel's place in the order of falling importance, 0 for the first; int64 (n, H, W).

    Ties are broken at random per image (a threshold would remove too many or too few of tied pixels).
    """
    flat = importance.flatten(1)
    shuffle = draws.fork("ties").uniform(flat.shape[1]).argsort(1)
    order = flat.gather(1, shuffle).argsort(dim=1, descending=True, stable=True)
    at = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, shuffle.gather(1, order), at).view_as(importance)


def top(importance: Tensor, fraction: float, draws: Draws) -> Tensor:
    """Mask of exactly round(fraction * H * W) most important pixels of each image, bool (n, H, W)."""
    return places(importance, draws) < round(fraction * importance.shape[1:].numel())
