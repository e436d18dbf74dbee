"""ROC-AUC of a saliency map as a detector of the pixels that carry the class."""

from __future__ import annotations

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.importance import Reduction
from metrics.localisation._masked import true_mask
from metrics.maps import Target, importance
from metrics.ranks import roc_auc


def localisation_auc(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    target: Target = "predicted",
) -> Scores:
    """The chance that a pixel that carries the class is more important than one that does not.

    Label: Localisation AUC {attribution}
    Formula: P(A_i > A_j) + P(A_i = A_j) / 2 for i in m, j not in m; A the importance of the pixels, m the mask
    Measures:
        auc (higher, 0..1): 1 if the mask ranks before all else, 0.5 for constant and random maps.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike.
    Chance: 0.5 for random and constant maps.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: NaN where the mask is empty or the whole image. Misclassified images are explained for the class that is
        predicted. Grad-CAM can rank a network that knows a shortcut alone above a true one, as for relevance_mass.
    Paper: Fawcett 2006, "An introduction to ROC analysis"
    """
    mask = true_mask(case).flatten(1)
    pixels = importance(case, attribution=attribution, of=of, reduction=reduction, target=target)
    auc = roc_auc(pixels.flatten(1).double(), mask)
    return {"auc": auc.float()}
