"""Structural similarity of maps (Wang et al. 2004)."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.fill import blurred


def unit_range(maps: Tensor) -> Tensor:
    """Maps (n, H, W) moved and scaled to [0, 1], float64; NaN for a constant map."""
    maps = maps.double()
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity of maps in [0, 1], (n, H, W) -> (n,)."""
    moments = torch.stack([a, b, a * a, b * b, a * b], 1)
    mean_a, mean_b, aa, bb, ab = blurred(moments, 1.5).unbind(1)
    variances, covariance = aa - mean_a**2 + bb - mean_b**2, ab - mean_a * mean_b
    first, second = 0.01**2, 0.03**2  # the paper's constants for a range of 1
    means = (2 * mean_a * mean_b + first) / (mean_a**2 + mean_b**2 + first)
    local = means * (2 * covariance + second) / (variances + second)
    # as is usual, only where the window of 11x11 fits, unless it fits nowhere
    border = 5 if min(local.shape[1:]) >= 11 else 0
    height, width = local.shape[1:]
    return local[:, border : height - border, border : width - border].mean((1, 2))
