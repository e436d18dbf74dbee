"""Pointing game: does the most important pixel carry the class?"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.edges import dilated
from metrics.importance import Reduction
from metrics.localisation._masked import beside_chance, true_mask
from metrics.maps import Target, importance


def pointing_game(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    tolerance: Annotated[int, Ge(0)] = 0,
    target: Target = "predicted",
) -> Scores:
    """Whether the most important pixel of the map is one that carries the class.

    Label: Pointing game {attribution}
    Formula: 1[argmax A in m], A the importance of the pixels, m the mask widened by `tolerance`; where several pixels
        are most important, the share of them that lies in m
    Measures:
        hit (higher, 0..1): 1 for a hit, 0 for a miss, |m| / n for a constant map of n pixels.
        chance (none, 0..1): |m| / n, the hit rate of random maps.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike.
    Chance: `chance`, the share of the mask, for random and constant maps.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        tolerance: Rows and columns by which a miss may be away from the mask (15 pixels on images of 224 in the paper).
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: one pixel decides; compare with `chance`, which is large where the mask is. Misclassified images are
        explained for the class that is predicted. Maps multiplied by the image (integrated gradients, DeepLIFT) hit a
        bright object whatever the network looks at; Grad-CAM can rank a network that knows a shortcut alone above a
        true one, as for relevance_mass.
    Paper: Zhang et al. 2018, "Top-down neural attention by excitation backprop"
    """
    mask = true_mask(case)
    widened = dilated(mask, tolerance).flatten(1)
    pixels = importance(case, attribution=attribution, of=of, reduction=reduction, target=target)
    hit = _hit(pixels.flatten(1).double(), widened)
    return beside_chance("hit", hit.where(mask.flatten(1).any(1), torch.nan), widened)


def _hit(importance: Tensor, mask: Tensor) -> Tensor:
    """(n, pixels) -> (n,)"""
    highest = importance == importance.amax(1, keepdim=True)  # nowhere where the map holds a NaN
    return (highest & mask).sum(1).double() / highest.sum(1)
