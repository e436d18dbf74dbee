"""Effective complexity of a saliency map."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.maps import Magnitude, Target, importance


def effective_complexity(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Magnitude = "sum_abs",
    share: Annotated[float, Gt(0), Lt(1)] = 0.9,
    target: Target = "predicted",
) -> Scores:
    """The part of the pixels that it takes to hold most of the importance.

    Label: Effective complexity {attribution}
    Formula: min {k : sum of the k largest |A| >= share sum|A|} / n, n pixels
    Measures:
        effective_complexity (lower, 0..1): 1/n for a single pixel, `share` (rounded up to a pixel) for a constant map.
    Map: by `reduction`, one importance per pixel, never negative: unless told otherwise absolute values, summed over
        channels, so that evidence for and against the class counts alike.
    Chance: `share` for a constant map; at 0.9 for normal noise 0.65 on one channel, 0.78 on three (measured).
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        share: How much of the importance the pixels must hold.
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: Quantus counts the values above 1e-5 instead, which changes with the scale of the map, and with it of the
        logits; few pixels are not the right ones.
    Paper: Nguyen & Martinez 2020, "On quantitative aspects of model interpretability"
    """
    pixels = importance(
        case, attribution=attribution, of=of, reduction=reduction, target=target
    ).flatten(1)
    return {"effective_complexity": _effective_complexity(pixels, share)}


def _effective_complexity(importance: Tensor, share: float) -> Tensor:
    """(n, pixels) -> (n,)"""
    held = importance.double().sort(1, descending=True).values.cumsum(1)
    # the sum's last bits must not cost a pixel where the share is held exactly; in a zero map all pixels are equal
    equal = torch.arange(1, held.shape[1] + 1, device=held.device).double() / held.shape[1]
    total = held[:, -1:]
    short = (held / total).where(total != 0, equal) < share * (1 - 1e-9)
    count = short.sum(1) + 1
    return (count / held.shape[1]).where(~total.isnan().squeeze(1), torch.nan).float()
