"""Deletion."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores
from metrics.fidelity._curves import points_of
from metrics.fidelity._flipping import area_under, evenly, flipping_curve, removal
from metrics.fill import Fill
from metrics.importance import Reduction, pixel_map
from metrics.maps import Target, explained_class


def deletion(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    fill: Fill = "zero",
    steps: Annotated[int, Ge(1)] = 25,
    target: Target = "predicted",
) -> Scores:
    """How fast the class's probability falls when its most important pixels are removed.

    Label: Deletion {attribution}
    Formula: trapezoid area over the removed fraction of p_c(x without the top pixels); exact ranks, c the
        class predicted on the unchanged image
    Measures:
        auc (lower, 0..1): The area.
        probability@ (none, 0..1): Probability of the class at each removed fraction.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike.
    Chance: not known in general: it depends on how soon the model lets go of a class. Run `random` beside it.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        fill: What removed pixels become.
        steps: Equal steps from the whole image to nothing (the paper's: 224 pixels each), at most one a pixel.
        target: The class that is explained and followed.
    Cost: one map and steps + 1 forward passes per image
    Pitfalls: changed images are none that the model was trained on, and a fragile model scores well with any map:
        compare with the random map and with Sobel's of the same model. The other classes' part of the probability is in
        it: a class that black images belong to cannot be deleted.
    Paper: Petsiuk, Das & Saenko 2018, "RISE: Randomized input sampling for explanation of black-box models"
    """
    followed, fractions = explained_class(case, target), evenly(case, steps)
    maps = explain(case.model, case.x, case.draws, attribution=attribution, of=of, target=followed)
    curve = flipping_curve(
        case, pixel_map(maps, reduction), fractions, removal(case, fill), target=followed
    )
    return {"auc": area_under(curve, fractions), **points_of("probability", curve, fractions)}
