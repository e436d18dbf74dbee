"""Local Lipschitz estimate of a map: how fast it changes with the image."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from metrics import attacks
from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores, predict
from metrics.maps import Kept, reduced
from metrics.randomness import Draws
from metrics.robustness._rounds import in_equal_batches
from metrics.stability._agreement import of_correct, unit
from metrics.threat import Linf


def local_lipschitz(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Kept = "none",
    radius: Annotated[float, Gt(0), Le(1)] = 0.02,
    samples: Annotated[int, Ge(1)] = 10,
) -> Scores:
    """The fastest change of the map between the image and images near it, per change of the image.

    Label: Local Lipschitz {attribution}
    Formula: max over x' of || A(x) / ||A(x)|| - A(x') / ||A(x')|| || / || x - x' ||, x' = x + U(-radius, radius)^d cut
        to [0, 1], A the map for the class predicted at x, norms L2
    Measures:
        lipschitz (lower, unbounded): 0 for a map that does not change, at most 2 / || x - x' ||.
    Map: by `reduction`: unless told otherwise signed, every channel of a pixel a number of its own; at length 1. No
        `target`: only images count whose predicted class is the true one.
    Chance: about sqrt(2) / || x - x' || for unrelated maps, less for those reduced to what is never
        negative; 0 for a map that does not depend on the image, as `random`, which draws the same map again.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel; none - they do not.
        radius: How far every pixel may be moved.
        samples: Images near each image.
    Cost: 1 + `samples` maps per image
    Pitfalls: a lower bound of the constant, which the direction of fastest change would reach. The paper (and Quantus)
        do not normalise the maps, and so compare the scale of the logits of models. It falls with the root of the
        number of pixels, and as 1 / radius where the map changes entirely: compare on one data set at one radius. A
        map that does not depend on the model is best. NaN for misclassified images and zero maps.
    Paper: Alvarez-Melis & Jaakkola 2018, "On the robustness of interpretability methods"
    """
    box = Linf(radius)

    def scores(x: Tensor, draws: Draws) -> Tensor:
        target = predict(case.model, x)

        def maps(images: Tensor) -> Tensor:
            found = explain(
                case.model, images, draws, attribution=attribution, of=of, target=target
            )
            return unit(reduced(found, reduction))

        before = maps(x)
        moves = [attacks.random_start(x, box, draws.fork("near", i)) for i in range(samples)]
        speeds = [
            (maps(x + move) - before).norm(dim=1) / move.flatten(1).double().norm(dim=1)
            for move in moves
        ]
        return torch.stack(speeds).amax(0)

    return of_correct(case, {"lipschitz": in_equal_batches(scores, case.x, case.draws)})
