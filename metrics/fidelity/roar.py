"""Remove and retrain."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Lt

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.fidelity._removal import area_between, curve_scores, removal_curves


def roar(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    percents: tuple[Annotated[int, Gt(0), Lt(100)], ...] = (10, 30, 50, 70, 90),
    retrains: Annotated[int, Ge(1)] = 3,
) -> Scores:
    """How much faster accuracy falls when the most important pixels are removed than when random ones are.

    The top p% of the pixels (absolute map, summed over channels, exact ranks) of training and test images are set to
    the training mean, and the data set's reference classifier is trained anew on them.

    Label: ROAR {attribution}
    Formula: trapezoid area over the removed fraction of (accuracy_random - accuracy_attribution)
    Measures:
        score (higher, -1..1): The area; 0 for random maps.
        accuracy@ (none, 0..1): Test accuracy after retraining, at each removed fraction.
        random_accuracy@ (none, 0..1): The same with random maps, shared by all models.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        percents: Removed percentages.
        retrains: Trainings per percentage, with seeds of their own.
    Cost: percents x retrains trainings of the reference classifier
    Pitfalls: a constant fill lets the retrained model read the mask's shape; smoothing a map, which adds no
        information, raises the score; compare models of like accuracy.
    Paper: Hooker et al. 2019, "A benchmark for interpretability methods"; protocol of Kim, Seo & Jeon 2019
    """
    curve, control, removed = removal_curves(
        case, attribution=attribution, of=of, percents=percents, retrains=retrains, keep=False
    )
    return curve_scores(area_between(control, curve, removed), curve, control, removed)
