"""Moran's I of a saliency map: whether neighbouring pixels are alike."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.importance import Reduction
from metrics.maps import Target, importance


def morans_i(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    neighbours: Literal["rook", "queen"] = "rook",
    target: Target = "predicted",
) -> Scores:
    """Spatial autocorrelation: how alike neighbouring pixels are, whatever the scale and offset of the map.

    Label: Moran's I {attribution}
    Formula: (n / W) sum_ij w_ij (A_i - mean A)(A_j - mean A) / sum_i (A_i - mean A)^2, w_ij = 1 for neighbours and 0
        otherwise, W = sum_ij w_ij, A the importance of the pixels, n pixels
    Measures:
        morans_i (higher, unbounded): Near 1 for large smooth regions, -1/(n - 1) in the mean for independent pixels, -1
            for a checkerboard with rook's neighbours; NaN for a constant map.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike.
    Chance: -1/(n - 1) in the mean for random maps of n pixels; no score for a constant map.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        neighbours: A rook's share a side (4 inside the image), a queen's a side or a corner (8).
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: a blurred map scores better without being more faithful, and so does the random map after an upsampling;
        read it beside Gini. On grids of few pixels it can leave -1..1 a little.
    Paper: Moran 1950, "Notes on continuous stochastic phenomena"
    """
    pixels = importance(case, attribution=attribution, of=of, reduction=reduction, target=target)
    return {"morans_i": _morans_i(pixels, neighbours)}


def _morans_i(importance: Tensor, neighbours: str) -> Tensor:
    """(n, H, W) -> (n,)"""
    a = importance.double()
    deviation = a - a.mean((1, 2), keepdim=True)
    pairs = [(deviation[:, 1:], deviation[:, :-1]), (deviation[:, :, 1:], deviation[:, :, :-1])]
    if neighbours == "queen":
        pairs.append((deviation[:, 1:, 1:], deviation[:, :-1, :-1]))
        pairs.append((deviation[:, 1:, :-1], deviation[:, :-1, 1:]))
    together = torch.stack([(one * other).sum((1, 2)) for one, other in pairs]).sum(0)
    count = sum(one[0].numel() for one, _ in pairs)
    found = together / count / deviation.square().mean((1, 2))
    # equal pixels have a mean that differs from them in the last bit
    return found.where(a.amax((1, 2)) > a.amin((1, 2)), torch.nan).float()
