"""Random logit test: whether the map depends on the class that it explains."""

from __future__ import annotations

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, NotApplicable, Scores
from metrics.maps import Magnitude, Target, explained_class
from metrics.sanity._similarity import similarities


def random_logit(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Magnitude = "sum_abs",
    target: Target = "predicted",
) -> Scores:
    """How alike the maps for the predicted class and for another one, drawn at random, are.

    Label: Random logit {attribution}
    Formula: Spearman(A_c, A_k), A the importance of the pixels, c the predicted class, k another class, each equally
        likely
    Measures:
        spearman_abs (lower, -1..1): Rank correlation of the absolute maps; 1 for a map that ignores the class.
        spearman (lower, -1..1): The same of the signed maps, summed over channels; -1 if evidence for one class is
            evidence against the other.
        ssim (lower, -1..1): SSIM of the absolute maps, moved and scaled to [0, 1].
    Map: by `reduction`, one importance per pixel, never negative: unless told otherwise absolute values, summed over
        channels. `spearman` takes the signed sum whatever the reduction.
    Chance: 0 for maps that have nothing to do with each other; 1 for a map that does not depend on the class, as
        `random` and `sobel`.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        target: The class c.
    Cost: 2 maps per image
    Pitfalls: pixels where the image is black, or that the model never looks at, rank alike for every class. Noise that
        belongs to the map (SmoothGrad, random) is the same for both classes. NaN for a constant map. With two classes
        the maps of log-odds, log-probability and margin differ by their sign and scale alone, whatever the model:
        explain the logit.
    Paper: Sixt, Granz & Landgraf 2020, "When explanations lie: why many modified BP attributions fail"
    """
    if case.classes < (2 if of == "logit" else 3):
        raise NotApplicable(
            f"of {case.classes} classes the maps of the {of} differ by sign and scale alone: "
            "needs three classes, or two and of = 'logit'"
        )
    own = explained_class(case, target)
    shift = case.draws.fork("other class").uniform(1).squeeze(1) * (case.classes - 1)
    other = (own + 1 + shift.long()) % case.classes
    maps, others = (
        explain(case.model, case.x, case.draws, attribution=attribution, of=of, target=label)
        for label in (own, other)
    )
    return similarities(maps, others, reduction)
