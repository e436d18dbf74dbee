"""Whether a map stays when noise is added to the image."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from metrics import attacks
from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores, predict
from metrics.importance import Reduction
from metrics.randomness import Draws
from metrics.robustness._rounds import in_equal_batches
from metrics.stability._agreement import AGREEMENT, agreement, of_correct


def noise_stability(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    share: Annotated[float, Gt(0), Lt(1)] = 0.1,
    samples: Annotated[int, Ge(1)] = 5,
) -> Scores:
    """Agreement of the maps of an image and of the image with uniform noise: the control of `attribution_attack`.

    Label: Noise stability {attribution}
    Threat: needed
    Formula: mean over x' = Proj(x + U(ball)) of |T_k(A(x)) and T_k(A(x'))| / k, and so on; A for the class predicted at
        x, T_k its k = share n most important of n pixels
    Measures:
        intersection (higher, 0..1): Part of the most important pixels that still are; `share` for unrelated maps.
        kendall (higher, -1..1): Kendall's tau-b between the importances of all pixels; 0 for unrelated maps.
        spearman (higher, -1..1): Spearman's rank correlation between them; 0 for unrelated maps.
        cosine (higher, -1..1): Cosine between the signed maps; 0 for unrelated maps.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels. The
        cosine takes the signed map, every channel of a pixel a number of its own. No `target`: only images count whose
        predicted class is the true one.
    Chance: intersection `share`, all else 0, for unrelated maps; 1 for a map that does not depend on the image, as
        `random`, which draws the same map again.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        share: The part of the pixels that counts as most important.
        samples: Noisy copies of each image.
    Cost: 1 + `samples` maps per image
    Pitfalls: a map that does not depend on the image is most stable: `random` draws the same map again, and
        scores 1. NaN for misclassified
        images; the rank correlations and the cosine are NaN for constant maps.
    Paper: Ghorbani, Abid & Zou 2019, "Interpretation of neural networks is fragile" (random perturbations)
    """
    threat = case.needs_threat()

    def scores(x: Tensor, draws: Draws) -> Tensor:
        target = predict(case.model, x)

        def maps(images: Tensor) -> Tensor:
            return explain(case.model, images, draws, attribution=attribution, of=of, target=target)

        before = maps(x)
        noisy = (
            x + attacks.random_start(x, threat, draws.fork("noise", i)) for i in range(samples)
        )
        found = [agreement(before, maps(copy), share, draws, reduction) for copy in noisy]
        return torch.stack(found).mean(0)

    found = in_equal_batches(scores, case.x, case.draws).unbind(1)
    return of_correct(case, dict(zip(AGREEMENT, found, strict=True)))
