"""Total variation of a saliency map."""

from __future__ import annotations

from torch import Tensor

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.maps import Magnitude, Target, importance


def total_variation(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Magnitude = "sum_abs",
    target: Target = "predicted",
) -> Scores:
    """How ragged the map is: change between neighbouring pixels per unit of importance.

    Label: Total variation {attribution}
    Formula: sum_ij (|A_i+1,j - A_ij| + |A_i,j+1 - A_ij|) / sum_ij A_ij, A the importance of the pixels
    Measures:
        total_variation (lower, 0..4): 0 for a constant map, 4 for isolated single pixels.
    Map: by `reduction`, one importance per pixel, never negative: unless told otherwise absolute values, summed over
        channels, so that evidence for and against the class counts alike.
    Chance: 0 for a constant map; for normal noise 1.45 on 1x8x8, 1.60 on 1x28x28, 0.95 on 3x32x32 (measured).
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: a blurred map scores better without being more faithful; read it beside Gini.
    Paper: Rudin, Osher & Fatemi 1992, "Nonlinear total variation based noise removal algorithms"
    """
    pixels = importance(case, attribution=attribution, of=of, reduction=reduction, target=target)
    return {"total_variation": _total_variation(pixels)}


def _total_variation(importance: Tensor) -> Tensor:
    """(n, H, W) -> (n,)"""
    down = importance.diff(dim=1).abs().sum((1, 2))
    right = importance.diff(dim=2).abs().sum((1, 2))
    total = importance.sum((1, 2))
    return ((down + right) / total).where(total != 0, 0.0)
