"""DiffROAR: the most against the least important pixels, each by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt
from torch import Tensor

from metrics.attribution import AttributionName, Of
from metrics.case import Case, Scores
from metrics.fidelity._curves import points_of
from metrics.fidelity._removal import Images, accuracy, control, explained, retrainings
from metrics.fill import Fill
from metrics.importance import Reduction


def diff_roar(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    fill: Fill = "mean",
    percents: tuple[Annotated[int, Gt(0), Lt(100)], ...] = (5, 10, 20, 40, 60, 80),
    retrains: Annotated[int, Ge(1)] = 3,
    controls: tuple[Literal["random", "edge", "blurred"], ...] = ("random", "edge", "blurred"),
) -> Scores:
    """How much better one can classify by the most important pixels alone than by the least important ones alone.

    Of training and test images the top (or the bottom) k% of the pixels are kept, exact ranks, the others replaced,
    and the data set's reference classifier is trained anew on them. Maps are for the predicted class.

    Label: DiffROAR {attribution}
    Formula: mean over the levels k of accuracy(top k% kept) - accuracy(bottom k% kept)
    Measures:
        score (higher, -1..1): The mean difference; 0 in expectation for random maps, exactly 0 for constant ones, below
            0 if the map marks what tells the classes apart least.
        random_score (none, -1..1): The score of random maps, shared by all models: how far from 0 chance leads.
        edge_score (none, -1..1): The score of Sobel's edges of the image, which know no model; shared by all models.
        blurred_score (none, -1..1): The score of the same map behind a Gaussian, which cannot know more than the map.
        top_accuracy@ (none, 0..1): Test accuracy after retraining on the top pixels, at each kept fraction.
        bottom_accuracy@ (none, 0..1): The same on the bottom pixels.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike. No `target`: maps for the true class would tell it to whoever
        is trained on what they leave.
    Chance: 0 in expectation for random maps (`random_score` is a draw of it), exactly 0 for constant ones.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        fill: What the other pixels become.
        percents: Kept percentages, the levels k.
        retrains: Trainings per percentage and end, with seeds of their own; the controls that all models share (random
            maps and edges) get at least three.
        controls: What is scored beside the map; each is as many trainings again.
    Cost: 2 x percents x retrains trainings of the reference classifier for the map, and as many for each control
        (those of random maps and of edges are shared by all models)
    Pitfalls: a constant fill lets the retrained model read the mask's shape, of either end; the paper ranks the values
        of all channels by themselves and fills with one grey, here a pixel is kept or replaced with all its channels
        and by the channels' means; compare models of like accuracy.
    Paper: Shah, Jain & Netrapalli 2021, "Do input gradients highlight discriminative features?"
    """
    fractions = [p / 100 for p in sorted(percents)]

    def ends(images: Images, retrains: int) -> tuple[Tensor, Tensor]:
        top, bottom = (
            accuracy(case, ranked, fractions, keep=True, fill=fill, retrains=retrains)
            for ranked in (images, _least_first(images))
        )
        return top, bottom

    images = explained(case, attribution=attribution, of=of, reduction=reduction)
    top, bottom = ends(images, retrains)
    others = {
        f"{name}_score": _difference(*ends(control(name, images), retrainings(name, retrains)))
        for name in controls
    }
    return {
        "score": _difference(top, bottom),
        **others,
        **points_of("top_accuracy", top, fractions),
        **points_of("bottom_accuracy", bottom, fractions),
    }


def _least_first(images: Images) -> Images:
    return tuple(each._replace(importance=-each.importance) for each in images)


def _difference(top: Tensor, bottom: Tensor) -> Tensor:
    """Mean over the levels, (levels, retrains, n) -> (retrains, n)."""
    return (top - bottom).mean(0)
