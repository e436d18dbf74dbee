"""Keep and retrain."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.fidelity._removal import explained, removal_scores
from metrics.fill import Fill
from metrics.importance import Reduction


def kar(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    fill: Fill = "mean",
    percents: tuple[Annotated[int, Gt(0), Lt(100)], ...] = (10, 30, 50, 70, 90),
    retrains: Annotated[int, Ge(1)] = 3,
    controls: tuple[Literal["edge", "blurred"], ...] = ("edge", "blurred"),
) -> Scores:
    """How much more accuracy the most important pixels alone sustain than random ones do.

    Only the top p% of the pixels (all channels of a pixel, exact ranks) of training and test images are kept, the
    others are replaced, and the data set's reference classifier is trained anew on them. Maps are for the predicted
    class. The defaults are the protocol of Kim, Seo & Jeon, as for ROAR.

    Label: KAR {attribution}
    Formula: trapezoid area over the removed fraction of (accuracy_attribution - accuracy_random)
    Measures:
        score (higher, -1..1): The area; 0 for random maps.
        random_score (none, -1..1): The area of each retraining with random maps to their mean: 0 in the mean, with the
            interval of what another retraining would change; shared by all models.
        edge_score (none, -1..1): The score of Sobel's edges of the image, which know no model; shared by all models.
        blurred_score (none, -1..1): The score of the same map behind a Gaussian, which cannot know more than the map.
        accuracy@ (none, 0..1): Test accuracy after retraining, at each removed fraction.
        random_accuracy@ (none, 0..1): The same with random maps, shared by all models.
        edge_accuracy@ (none, 0..1): The same with Sobel's edges, shared by all models.
        blurred_accuracy@ (none, 0..1): The same with the map behind a Gaussian.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike. No `target`: maps for the true class would tell it to whoever
        is trained on what they leave.
    Chance: 0 in expectation for random maps, which are the control.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        fill: What removed pixels become.
        percents: Kept percentages.
        retrains: Trainings per percentage, with seeds of their own; the controls that all models share (random maps and
            edges) get at least three.
        controls: What is scored beside the map and the random control; each is as many trainings again.
    Cost: percents x retrains trainings of the reference classifier for the map, and as many for each control (those of
        random maps and of edges are shared by all models)
    Pitfalls: as for ROAR; the curve is drawn over the removed fraction, 1 - kept.
    Paper: Hooker et al. 2019, "A benchmark for interpretability methods"; protocol of Kim, Seo & Jeon 2019; blur
        control: Song, Cha & Seo 2023, arXiv 2304.13836
    """
    images = explained(case, attribution=attribution, of=of, reduction=reduction)
    return removal_scores(case, images, percents, controls, keep=True, fill=fill, retrains=retrains)
