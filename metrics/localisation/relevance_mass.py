"""Relevance mass accuracy: the share of the map that lies on the pixels that carry the class."""

from __future__ import annotations

from torch import Tensor

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.localisation._masked import beside_chance, true_mask
from metrics.maps import Magnitude, Target, importance


def relevance_mass(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Magnitude = "sum_abs",
    target: Target = "predicted",
) -> Scores:
    """How much of the importance lies on the pixels that carry the class.

    Label: Relevance mass {attribution}
    Formula: sum_{i in m} A_i / sum_i A_i, A the importance of the pixels, m the mask
    Measures:
        mass (higher, 0..1): 1 for a map inside the mask, |m| / n for a constant map and in the mean for random ones.
        chance (none, 0..1): |m| / n for n pixels.
    Map: by `reduction`, one importance per pixel, never negative: unless told otherwise absolute values, summed over
        channels, so that evidence for and against the class counts alike.
    Chance: `chance`, the share of the mask, for a constant map and in the mean for random ones.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: faint noise over many pixels outside the mask lowers it, though no eye sees it; compare with `chance`.
        Misclassified images are explained for the class that is predicted. On `planted` gradients and what is made of
        them rank a network that knows the bar above one that knows the shortcut alone. Two other maps need not:
        occlusion, whose mid-grey is nearer to the bar than to the background, and Grad-CAM, which averages slopes over
        places that a linear layer weighs apart.
    Paper: Arras, Osman & Samek 2022, "CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural network
        explanations"
    """
    mask = true_mask(case).flatten(1)
    pixels = importance(case, attribution=attribution, of=of, reduction=reduction, target=target)
    return beside_chance("mass", _mass(pixels.flatten(1).double(), mask), mask)


def _mass(importance: Tensor, mask: Tensor) -> Tensor:
    """(n, pixels) -> (n,)"""
    total = importance.sum(1)
    # a zero map prefers no pixel
    return ((importance * mask).sum(1) / total).where(total != 0, mask.double().mean(1))
