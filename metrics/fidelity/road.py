"""Remove and debias."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Lt

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.fidelity._curves import points_of
from metrics.fidelity._flipping import flipping_curve, removal
from metrics.fidelity._removal import area_between
from metrics.importance import Reduction
from metrics.maps import Target, importance


def road(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    percents: tuple[Annotated[int, Gt(0), Lt(100)], ...] = (10, 20, 30, 40, 50, 70, 90),
    target: Target = "predicted",
) -> Scores:
    """How much more accuracy the model keeps if the least important pixels go first (LeRF) than if the most do (MoRF).

    Nothing is retrained: removed pixels are imputed from their neighbours, so that the mask's shape tells nothing.

    Label: ROAD {attribution}
    Formula: trapezoid area over the removed fraction of (accuracy_LeRF - accuracy_MoRF), equal at 0 and at 1; noisy
        linear imputation: a removed pixel is the mean of its neighbours, weights 1/6 beside and 1/12 diagonal, plus
        N(0, .01)
    Measures:
        score (higher, -1..1): The area; 0 in the mean for random maps, and for a constant map.
        morf_accuracy@ (none, 0..1): Accuracy at each removed fraction, most relevant first.
        lerf_accuracy@ (none, 0..1): The same, least relevant first.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike.
    Chance: 0 in the mean for random maps, and 0 for a constant map.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        percents: Removed percentages.
        target: The class that is explained; accuracy is that of the true one in any case.
    Cost: one map, 2 imputations and 2 forward passes per image and percentage
    Pitfalls: smoothing a map, which adds no information, moves the score; scattered pixels can be imputed almost
        without loss, so connected masks look more faithful; compare models of like accuracy.
    Paper: Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods"
    """
    fractions = tuple(sorted(p / 100 for p in percents))
    pixels = importance(case, attribution=attribution, of=of, reduction=reduction, target=target)
    morf, lerf = (
        flipping_curve(
            case, ranked, fractions, removal(case, "noisy_linear"), target=case.y, output="accuracy"
        )
        for ranked in (pixels, -pixels)
    )
    return {
        "score": area_between(lerf, morf, fractions),
        **points_of("morf_accuracy", morf, fractions),
        **points_of("lerf_accuracy", lerf, fractions),
    }
