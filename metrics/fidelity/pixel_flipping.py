"""Pixel flipping in both directions, and the area between."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores
from metrics.fidelity._curves import points_of
from metrics.fidelity._flipping import Output, area_under, evenly, flipping_curve, removal
from metrics.fill import Fill
from metrics.importance import Reduction, pixel_map
from metrics.maps import Target, explained_class


def pixel_flipping(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    output: Output = "probability",
    fill: Fill = "mean",
    steps: Annotated[int, Ge(1)] = 25,
    target: Target = "predicted",
) -> Scores:
    """Symmetric relevance gain: how much longer the output lives if the least important pixels go first (LeRF).

    The other order, most relevant first (MoRF), is the classical pixel flipping.

    Label: SRG {attribution}
    Formula: SRG = AUC_LeRF - AUC_MoRF, trapezoid areas over the removed fraction; exact ranks
    Measures:
        srg (higher, unbounded): The area between the curves; 0 in the mean for random maps, and for a constant map.
        morf_auc (lower, unbounded): Area under the curve with the most relevant first.
        lerf_auc (higher, unbounded): Area under the curve with the least relevant first.
        morf@ (none, unbounded): The output at each removed fraction, most relevant first.
        lerf@ (none, unbounded): The same, least relevant first.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike.
    Chance: srg 0 in the mean for random maps, and 0 for a constant map; those of the single areas are not known, run
        `random` beside them.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        output: What is followed (accuracy - whether the class is still the predicted one).
        fill: What removed pixels become.
        steps: Equal steps from the whole image to nothing, at most one a pixel.
        target: The class that is explained and followed.
    Cost: one map and 2 (steps + 1) forward passes per image
    Pitfalls: the single areas depend on the fill far more than their difference does. Logits and margins have the scale
        of the model: compare models by probability or accuracy.
    Paper: Bluecher, Vielhaben & Strodthoff 2024, "Decoupling pixel flipping and occlusion strategy for consistent XAI
        benchmarks"; Samek et al. 2017, "Evaluating the visualization of what a deep neural network has learned"
    """
    followed, fractions = explained_class(case, target), evenly(case, steps)
    maps = explain(case.model, case.x, case.draws, attribution=attribution, of=of, target=followed)
    importance = pixel_map(maps, reduction)
    morf, lerf = (
        flipping_curve(case, ranked, fractions, removal(case, fill), target=followed, output=output)
        for ranked in (importance, -importance)
    )
    areas = {
        f"{name}_auc": area_under(curve, fractions)
        for name, curve in (("morf", morf), ("lerf", lerf))
    }
    return {
        "srg": areas["lerf_auc"] - areas["morf_auc"],
        **areas,
        **points_of("morf", morf, fractions),
        **points_of("lerf", lerf, fractions),
    }
