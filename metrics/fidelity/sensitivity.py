"""Max-sensitivity of a map to noise."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores, in_batches
from metrics.maps import Kept, Target, explained_class, reduced
from metrics.randomness import Draws


def sensitivity(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Kept = "none",
    radius: Annotated[float, Gt(0)] = 0.02,
    samples: Annotated[int, Ge(1)] = 10,
    target: Target = "predicted",
) -> Scores:
    """How much noise that nobody sees can change the map.

    Label: Max-sensitivity {attribution}
    Formula: max over the samples of ||a(x + u) - a(x)||_2 / ||a(x)||_2, u uniform in [-radius, radius] per pixel, both
        maps for the class predicted on x, or the true one
    Measures:
        sensitivity_max (lower, 0..inf): The largest change relative to the map; 0 for a linear scalar, above sqrt(2)
            for random maps; NaN for a map of zeros.
    Map: by `reduction`: unless told otherwise signed, every channel of a pixel a number of its own.
    Chance: sqrt(2) or a little more for random maps, which are drawn anew for each copy (measured), less where
        they are reduced to what is never negative; 0 for a constant map.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel; none - they do not.
        radius: Largest change of a pixel.
        samples: Noisy copies per image.
        target: The class that is explained.
    Cost: samples + 1 maps per image
    Pitfalls: a lower bound of what an adversary could do; a map that ignores model and image altogether would score
        best, so read it beside a measure of fidelity. A map that is itself random draws anew for each copy, as a user
        would. Where the map is zero Captum divides by 1 instead.
    Paper: Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations"
    """

    def largest_change(x: Tensor, maps: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        copies = torch.arange(len(x), device=x.device).repeat_interleave(samples)
        # each copy is a sample of its own
        number = torch.arange(samples, device=x.device).repeat(len(x))
        own = Draws(draws.fork("copy").seed, draws.ids[copies] * samples + number)
        noisy = x[copies] + radius * (2 * own.fork("noise").uniform(*x.shape[1:]) - 1)
        theirs = reduced(
            explain(case.model, noisy, own, target=labels[copies], attribution=attribution, of=of),
            reduction,
        )
        # in float64: the squares of a map of 1e-25 are 0 in float32
        change = (theirs - maps[copies]).flatten(1).double().norm(dim=1).view(-1, samples)
        return (change.amax(1) / maps.flatten(1).double().norm(dim=1)).float()

    explained = explained_class(case, target)
    maps = reduced(
        explain(case.model, case.x, case.draws, attribution=attribution, of=of, target=explained),
        reduction,
    )
    found = in_batches(
        largest_change, case.x, maps, explained, case.draws, size=max(1, 250 // samples)
    )
    return {"sensitivity_max": found.where(found.isfinite(), torch.nan)}
