"""Gini coefficient of a saliency map."""

from __future__ import annotations

import torch

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.maps import Magnitude, Target, importance


def gini(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Magnitude = "sum_abs",
    target: Target = "predicted",
) -> Scores:
    """How unequally importance is spread over the pixels.

    Label: Gini {attribution}
    Formula: sum_i (2i - n - 1) v_i / (n sum_i v_i), v = |A| / mean|A| + 1e-7 sorted ascending, n pixels
    Measures:
        gini (higher, 0..1): 0 for a constant map, 1 - 1/n for a single pixel, 0.5 for exponential values.
    Map: by `reduction`, one importance per pixel, never negative: unless told otherwise absolute values, summed over
        channels, so that evidence for and against the class counts alike.
    Chance: 0 for a constant map, sqrt(2) - 1 = 0.41 for normal noise on one channel; on three 0.24 (measured, 3x32x32).
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: sparse is not the same as faithful; Linf adversarial training raises it by itself.
    Paper: Chalasani et al. 2020, "Concise explanations of neural networks using adversarial training"
    """
    pixels = importance(
        case, attribution=attribution, of=of, reduction=reduction, target=target
    ).flatten(1)
    return {"gini": _gini(pixels)}


def _gini(importance: torch.Tensor) -> torch.Tensor:
    """(n, pixels) -> (n,)"""
    # relative to the mean, so that the offset means the same for maps of any scale (a zero map counts as constant)
    v = importance.double() / importance.double().mean(1, keepdim=True).clamp_min(1e-300) + 1e-7
    n = v.shape[1]
    weights = 2 * torch.arange(1, n + 1, device=v.device) - n - 1
    found = (weights * v.sort(1).values).sum(1) / (n * v.sum(1))
    return found.clamp_min(0).float()  # equal values may come out a rounding error below
