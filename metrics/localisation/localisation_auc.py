"""ROC-AUC of a saliency map as a detector of the pixels that carry the class."""

from __future__ import annotations

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.localisation._masked import importance_of, true_mask
from metrics.ranks import roc_auc


def localisation_auc(
    case: Case, *, attribution: AttributionName = "gradient", of: Of = "log_odds"
) -> Scores:
    """The chance that a pixel that carries the class is more important than one that does not.

    Label: Localisation AUC {attribution}
    Formula: P(A_i > A_j) + P(A_i = A_j) / 2 for i in m, j not in m; A = |map| summed over channels, m the mask
    Measures:
        auc (higher, 0..1): 1 if the mask ranks before all else, 0.5 for constant and random maps.
    Map: absolute values, summed over channels: one importance per pixel, evidence for and against the class alike.
    Chance: 0.5 for random and constant maps.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
    Cost: one map per image
    Pitfalls: NaN where the mask is empty or the whole image. Misclassified images are explained for the class that is
        predicted. Grad-CAM can rank a network that knows a shortcut alone above a true one, as for relevance_mass.
    Paper: Fawcett 2006, "An introduction to ROC analysis"
    """
    auc = roc_auc(importance_of(case, attribution, of), true_mask(case).flatten(1))
    return {"auc": auc.float()}
