"""Share of a saliency map that its most important pixels hold."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.maps import Magnitude, Target, importance


def topk_mass(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Magnitude = "sum_abs",
    percents: tuple[Annotated[int, Gt(0), Lt(100)], ...] = (1, 5, 10, 20),
    target: Target = "predicted",
) -> Scores:
    """How much of the importance the most important pixels hold.

    Label: Top-k mass {attribution}
    Formula: sum of the k largest |A| / sum|A|, k = percent of the n pixels, at least one
    Measures:
        mean_mass (higher, 0..1): Mean over the percents; 1 for a single pixel, the mean percent for a constant map.
        mass@ (none, 0..1): The share that this fraction of the pixels holds.
    Map: by `reduction`, one importance per pixel, never negative: unless told otherwise absolute values, summed over
        channels, so that evidence for and against the class counts alike.
    Chance: the mean percent for a constant map (0.09 by default); for normal noise 0.22 on one channel, 0.16 on three
        (measured).
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        percents: How many pixels count, in percent.
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: on small images a percent is a fraction of a pixel, and one pixel is counted: of the 64 of an 8x8 image 1%
        is 1.6%; concentrated is not the same as faithful.
    Paper: Nguyen & Martinez 2020, "On quantitative aspects of model interpretability"
    """
    pixels = importance(
        case, attribution=attribution, of=of, reduction=reduction, target=target
    ).flatten(1)
    masses = {percent / 100: _topk_mass(pixels, percent / 100) for percent in percents}
    points = {f"mass@{fraction:g}": mass for fraction, mass in masses.items()}
    return {"mean_mass": torch.stack(list(masses.values())).mean(0), **points}


def _topk_mass(importance: Tensor, fraction: float) -> Tensor:
    """(n, pixels) -> (n,)"""
    v = importance.double()
    count = max(1, round(fraction * v.shape[1]))
    total = v.sum(1)
    # a zero map prefers no pixel
    return (v.topk(count).values.sum(1) / total).where(total != 0, count / v.shape[1]).float()
