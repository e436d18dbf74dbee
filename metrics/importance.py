"""From maps to importance: one number per pixel, and the most important pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.randomness import Draws


def pixel_map(maps: Tensor) -> Tensor:
    """Importance of each pixel: absolute values summed over the channels, (n, C, H, W) -> (n, H, W)."""
    return maps.abs().sum(1)


def top(importance: Tensor, fraction: float, draws: Draws) -> Tensor:
    """Mask of exactly round(fraction * H * W) most important pixels of each image, bool (n, H, W).

    Ties are broken at random per image (a threshold would remove too many or too few of tied pixels).
    """
    n, height, width = importance.shape
    count = round(fraction * height * width)
    shuffle = draws.fork("ties").uniform(height * width).argsort(1)
    order = importance.flatten(1).gather(1, shuffle).argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros(n, height * width, dtype=torch.bool, device=importance.device)
    mask.scatter_(1, shuffle.gather(1, order[:, :count]), True)
    return mask.view(n, height, width)
