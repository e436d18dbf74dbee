"""Entropy of a saliency map."""

from __future__ import annotations

import math

from torch import Tensor

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.maps import Magnitude, Target, importance


def entropy(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Magnitude = "sum_abs",
    target: Target = "predicted",
) -> Scores:
    """How many pixels share the importance, on a logarithmic scale.

    Label: Entropy {attribution}
    Formula: -sum_i p_i ln p_i / ln n, p = |A| / sum|A|, n pixels
    Measures:
        entropy (lower, 0..1): 1 for a constant map, 0 for a single pixel.
    Map: by `reduction`, one importance per pixel, never negative: unless told otherwise absolute values, summed over
        channels, so that evidence for and against the class counts alike.
    Chance: 1 for a constant map; for normal noise 0.93 on 1x8x8, 0.96 on 1x28x28, 0.99 on 3x32x32 (measured).
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: concentrated is not the same as faithful.
    Paper: Bhatt, Weller & Moura 2020, "Evaluating and aggregating feature-based model explanations"
    """
    pixels = importance(
        case, attribution=attribution, of=of, reduction=reduction, target=target
    ).flatten(1)
    return {"entropy": _entropy(pixels)}


def _entropy(importance: Tensor) -> Tensor:
    """(n, pixels) -> (n,)"""
    v = importance.double()
    total = v.sum(1, keepdim=True)
    p = (v / total).where(total != 0, 1 / v.shape[1])  # a zero map prefers no pixel
    return ((p * -p.clamp_min(1e-300).log()).sum(1) / math.log(v.shape[1])).float()
