"""Relevance rank accuracy: how many of the pixels that carry the class are among the most important ones."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.importance import Reduction
from metrics.localisation._masked import beside_chance, true_mask
from metrics.maps import Target, importance


def relevance_rank(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    target: Target = "predicted",
) -> Scores:
    """The share of the |m| most important pixels that carry the class, where |m| pixels do.

    Label: Relevance rank {attribution}
    Formula: |T_|m| and m| / |m|, T_k the k most important pixels, m the mask; of equal pixels at
        the limit, the expected number under a random choice
    Measures:
        rank_accuracy (higher, 0..1): 1 if the most important pixels are the mask, |m| / n for constant and random maps.
        chance (none, 0..1): |m| / n for n pixels.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike.
    Chance: `chance`, the share of the mask, for random and constant maps.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: compare with `chance`. Misclassified images are explained for the class that is predicted. Occlusion and
        Grad-CAM can rank a network that knows a shortcut alone above a true one, as for relevance_mass.
    Paper: Arras, Osman & Samek 2022, "CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural network
        explanations"
    """
    mask = true_mask(case).flatten(1)
    pixels = importance(case, attribution=attribution, of=of, reduction=reduction, target=target)
    return beside_chance("rank_accuracy", _rank_accuracy(pixels.flatten(1).double(), mask), mask)


def _rank_accuracy(importance: Tensor, mask: Tensor) -> Tensor:
    """(n, pixels) -> (n,)"""
    size = mask.sum(1, keepdim=True)
    limit = importance.sort(1, descending=True).values.gather(1, (size - 1).clamp_min(0))
    above, equal = importance > limit, importance == limit
    share = (size - above.sum(1, keepdim=True)) / equal.sum(1, keepdim=True)
    expected = (above & mask).sum(1) + share.squeeze(1).double() * (equal & mask).sum(1)
    return (expected / size.squeeze(1)).where(~importance.isnan().any(1), torch.nan)
