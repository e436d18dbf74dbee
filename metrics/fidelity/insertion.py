"""Insertion."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores
from metrics.fidelity._curves import points_of
from metrics.fidelity._flipping import area_under, evenly, flipping_curve
from metrics.importance import Reduction, pixel_map
from metrics.maps import Target, explained_class
from metrics.randomness import Draws


def insertion(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum_abs",
    steps: Annotated[int, Ge(1)] = 25,
    target: Target = "predicted",
) -> Scores:
    """How fast the class's probability rises when its most important pixels are put back into the blurred image.

    Label: Insertion {attribution}
    Formula: trapezoid area over the inserted fraction of p_c(blurred x with the top pixels of x); exact
        ranks, c the class predicted on the unchanged image; Gaussian blur of sigma 5, its tails folded back into 11x11
        pixels (as the authors' kernel has it)
    Measures:
        auc (higher, 0..1): The area.
        probability@ (none, 0..1): Probability of the class at each inserted fraction.
    Map: by `reduction`, one importance per pixel: unless told otherwise absolute values, summed over channels, so that
        evidence for and against the class counts alike.
    Chance: not known in general: it depends on what the blur leaves. Run `random` beside it.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        steps: Equal steps from the blurred to the whole image (the paper's: 224 pixels each), at most one a pixel.
        target: The class that is explained and followed.
    Cost: one map and steps + 1 forward passes per image
    Pitfalls: what the blur leaves is enough for some classes, and the area then says little (see probability@0). Where
        the blur's window leaves the image it is cut and renormalised; the authors' code pads with zeros. Compare with
        the random map of the same model.
    Paper: Petsiuk, Das & Saenko 2018, "RISE: Randomized input sampling for explanation of black-box models"
    """
    followed, fractions = explained_class(case, target), evenly(case, steps)
    maps = explain(case.model, case.x, case.draws, attribution=attribution, of=of, target=followed)
    curve = flipping_curve(case, pixel_map(maps, reduction), fractions, _inserted, target=followed)
    return {"auc": area_under(curve, fractions), **points_of("probability", curve, fractions)}


def _inserted(x: Tensor, first: Tensor, draws: Draws) -> Tensor:
    return torch.where(first[:, None], x, _start(x))


def _start(x: Tensor) -> Tensor:
    """The images behind the paper's blur, shape kept."""
    rows, columns = (_window(size, x) for size in x.shape[2:])
    return rows @ x @ columns.T


def _window(size: int, like: Tensor) -> Tensor:
    """Weights (size, size), row i those of the at most 11 pixels around i."""
    at = torch.arange(size, dtype=like.dtype, device=like.device)
    distance = at[:, None] - at
    # the authors blur a single pixel in a window of 11, whose border reflects what leaves it (up to 4 sigma)
    folded = distance[..., None] + 11 * torch.arange(-2, 3, device=like.device)
    tails = (-0.5 * (folded / 5).square()).exp() * (folded.abs() <= 20)
    weights = tails.sum(-1) * (distance.abs() <= 5)
    return weights / weights.sum(1, keepdim=True)
