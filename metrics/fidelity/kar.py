"""Keep and retrain."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Lt

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.fidelity._removal import area_between, curve_scores, removal_curves


def kar(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    percents: tuple[Annotated[int, Gt(0), Lt(100)], ...] = (10, 30, 50, 70, 90),
    retrains: Annotated[int, Ge(1)] = 3,
) -> Scores:
    """How much more accuracy the most important pixels alone sustain than random ones do.

    Only the top p% of the pixels (absolute map, summed over channels, exact ranks) of training and test images are
    kept, the others set to the training mean, and the data set's reference classifier is trained anew on them.

    Label: KAR {attribution}
    Formula: trapezoid area over the removed fraction of (accuracy_attribution - accuracy_random)
    Measures:
        score (higher, -1..1): The area; 0 for random maps.
        accuracy@ (none, 0..1): Test accuracy after retraining, at each removed fraction.
        random_accuracy@ (none, 0..1): The same with random maps, shared by all models.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        percents: Kept percentages.
        retrains: Trainings per percentage, with seeds of their own.
    Cost: percents x retrains trainings of the reference classifier
    Pitfalls: as for ROAR; the curve is drawn over the removed fraction, 1 - kept.
    Paper: Hooker et al. 2019, "A benchmark for interpretability methods"; protocol of Kim, Seo & Jeon 2019
    """
    curve, control, removed = removal_curves(
        case, attribution=attribution, of=of, percents=percents, retrains=retrains, keep=True
    )
    return curve_scores(area_between(curve, control, removed), curve, control, removed)
