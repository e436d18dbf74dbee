"""Total variation of a saliency map."""

from __future__ import annotations

from torch import Tensor

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores
from metrics.importance import pixel_map


def total_variation(
    case: Case, *, attribution: AttributionName = "gradient", of: Of = "log_odds"
) -> Scores:
    """How ragged the map is: change between neighbouring pixels per unit of importance.

    Label: Total variation {attribution}
    Formula: sum_ij (|A_i+1,j - A_ij| + |A_i,j+1 - A_ij|) / sum_ij A_ij, A = |map| summed over channels
    Measures:
        total_variation (lower, 0..4): 0 for a constant map, 4 for isolated single pixels.
    Map: absolute values, summed over channels: one importance per pixel, evidence for and against the class alike.
    Chance: 0 for a constant map; for normal noise 1.45 on 1x8x8, 1.60 on 1x28x28, 0.95 on 3x32x32 (measured).
    Args:
        attribution: The map.
        of: The scalar that is attributed.
    Cost: one map per image
    Pitfalls: a blurred map scores better without being more faithful; read it beside Gini.
    Paper: Rudin, Osher & Fatemi 1992, "Nonlinear total variation based noise removal algorithms"
    """
    importance = pixel_map(explain(case.model, case.x, case.draws, attribution=attribution, of=of))
    return {"total_variation": _total_variation(importance)}


def _total_variation(importance: Tensor) -> Tensor:
    """(n, H, W) -> (n,)"""
    down = importance.diff(dim=1).abs().sum((1, 2))
    right = importance.diff(dim=2).abs().sum((1, 2))
    total = importance.sum((1, 2))
    return ((down + right) / total).where(total != 0, 0.0)
