"""Whether the map of an image and of its adversarial example are the same."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor

from metrics import attacks
from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores
from metrics.maps import Kept, reduced
from metrics.randomness import Draws
from metrics.robustness._rounds import in_equal_batches
from metrics.stability._agreement import cosine, of_correct


def saliency_consensus(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Kept = "none",
    steps: Annotated[int, Ge(1)] = 20,
    step_size: Annotated[float, Gt(0)] | None = None,
) -> Scores:
    """Agreement of the maps of an image and of its adversarial example, both for the image's class.

    Label: Saliency consensus {attribution}
    Threat: needed
    Formula: cos(S(x), S(x')), S the map for the label, x' after PGD on the cross-entropy from a random start
    Measures:
        consensus (higher, -1..1): 1 for the same map up to a positive factor, 0 for unrelated ones.
    Map: by `reduction`: unless told otherwise signed, every channel of a pixel a number of its own. No `target`: only
        images count whose predicted class is the true one.
    Chance: 0 for unrelated maps, more for those reduced to what is never negative; 1 for a map that does not
        depend on the image, as `random`, which draws the same map again.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel; none - they do not.
        steps: Gradient steps of the attack.
        step_size: Length of a step in pixel units; none means 2.5 eps / steps.
    Cost: `steps` gradients and 2 maps per image
    Pitfalls: the attack moves the prediction, not the map: `attribution_attack` finds less agreement. A model with
        masked gradients leads the attack astray, and agrees with itself. NaN for misclassified images and zero maps.
    Paper: Adv-GSCT, IEEE Transactions on Dependable and Secure Computing 2024 (whose training raises it)
    """
    threat = case.needs_threat()
    step = 2.5 * threat.eps / steps if step_size is None else step_size

    def scores(x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        start = attacks.random_start(x, threat, draws.fork("start"))
        attacked = attacks.pgd(case.model, x, y, threat, steps=steps, step_size=step, start=start)
        before, after = (
            reduced(
                explain(case.model, images, draws, attribution=attribution, of=of, target=y),
                reduction,
            )
            for images in (x, attacked)
        )
        return cosine(before, after)

    return of_correct(case, {"consensus": in_equal_batches(scores, case.x, case.y, case.draws)})
