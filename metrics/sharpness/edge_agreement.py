"""Agreement of a saliency map with the edges of its image."""

from __future__ import annotations

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.edges import canny, dilated, sobel
from metrics.importance import Reduction
from metrics.maps import Target, importance
from metrics.ranks import average_precision, roc_auc, spearman
from metrics.ssim import ssim, unit_range


def edge_agreement(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    target: Target = "predicted",
) -> Scores:
    """How much the map looks like the edges of the image: what makes a map look sharp to the eye.

    Label: Edge agreement {attribution}
    Formula: Spearman(A, E) and SSIM(A', E'), A the importance of the pixels, E = Sobel magnitude of the mean over
        channels, A' and E' moved and scaled to [0, 1]; average precision and ROC-AUC of A as a score for the pixels
        beside or on a Canny edge (sigma 1, thresholds .1 and .2 of the largest magnitude)
    Measures:
        spearman (higher, -1..1): Rank correlation; 1 for A = E, 0 for random maps.
        ssim (higher, -1..1): Structural similarity; 1 for A = E.
        average_precision (higher, 0..1): 1 if every edge pixel ranks before all others, `chance` for random maps.
        auc (higher, 0..1): 1 if every edge pixel ranks before all others, 0.5 for random maps.
        chance (none, 0..1): Share of the pixels that are beside or on an edge.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike.
    Chance: spearman and ssim near 0, auc 0.5 and average_precision `chance` for random maps; Sobel's edges are the
        upper bound of spearman and ssim.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        target: The class that is explained.
    Cost: one map per image
    Pitfalls: not a measure of faithfulness: an edge detector, which knows no model, scores best. SSIM weighs by a
        Gaussian of 1.5 pixels and is averaged where a window of 11x11 fits into the image; in smaller images over all
        pixels, the Gaussian renormalised at the border. On images of 8x8 nearly every pixel is beside an edge: read
        spearman there. All NaN for an image without edges; spearman and ssim NaN for a constant map.
    Paper: Adebayo et al. 2018, "Sanity checks for saliency maps" (edge detectors); Wang et al. 2004, "Image quality
        assessment: from error visibility to structural similarity"; Canny 1986, "A computational approach to edge
        detection"
    """
    pixels = importance(case, attribution=attribution, of=of, reduction=reduction, target=target)
    strength, near = sobel(case.x), dilated(canny(case.x)).flatten(1)
    a, e = pixels.flatten(1), strength.flatten(1)
    scores = {
        "spearman": spearman(a, e),
        "ssim": ssim(unit_range(pixels), unit_range(strength)),
        "average_precision": average_precision(a, near),
        "auc": roc_auc(a, near),
        "chance": near.double().mean(1),
    }
    return {name: values.float() for name, values in scores.items()}
