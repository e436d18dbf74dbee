"""Cascading randomisation: the model parameter randomisation test."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores
from metrics.maps import Magnitude, Target, explained_class
from metrics.sanity._randomisation import cascade
from metrics.sanity._similarity import SIMILARITIES, similarities


def cascading_randomisation(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Magnitude = "sum_abs",
    stages: Annotated[int, Ge(1)] = 10,
    target: Target = "predicted",
) -> Scores:
    """How much of the map is left when the model forgets what it has learnt, layer by layer from logits to input.

    Label: Cascading randomisation {attribution}
    Formula: mean over the stages of Spearman(A, A'), A the importance of the pixels, A' that for the model whose last
        layers, a share of stage / stages of all, have new weights; both maps for the class that the model predicts
    Measures:
        similarity (lower, -1..1): The mean over the cascade; 1 for a map that does not depend on the model.
        signed_similarity (lower, -1..1): The same of the signed maps, summed over channels.
        structural_similarity (lower, -1..1): The same by SSIM of the absolute maps, moved and scaled to [0, 1].
        spearman_abs@ (none, -1..1): Spearman of the absolute maps at each share of randomised layers.
        spearman@ (none, -1..1): Spearman of the signed maps.
        ssim@ (none, -1..1): SSIM of the absolute maps.
    Map: by `reduction`, one importance per pixel, never negative: unless told otherwise absolute values, summed over
        channels. The signed similarity takes the signed sum whatever the reduction.
    Chance: 0 for maps that have nothing to do with each other; 1 for a map that does not depend on the model, as
        `random` and `sobel`.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        stages: Equal steps of the cascade, at most one per layer (a layer is a module with parameters of its own; those
            that the model does not call come last).
        target: The class that is explained.
    Cost: stages + 1 maps per image
    Pitfalls: a map multiplied by the image stays alike because the image does, most of all by absolute ranks and where
        much of the image is black. New weights are torch's default of each layer, whatever the training began with;
        what that does not draw anew (a bare parameter, a normalised weight's parts) is shuffled, so that a single
        number stays. Noise that belongs to the map (SmoothGrad, random) is the same at every stage, so that the random
        map scores 1. Stages where a map is constant are left out; NaN if all are.
    Paper: Adebayo et al. 2018, "Sanity checks for saliency maps"
    """
    explained = explained_class(case, target)

    def maps(model: torch.nn.Module) -> torch.Tensor:
        return explain(model, case.x, case.draws, attribution=attribution, of=of, target=explained)

    before = maps(case.model)
    curves = {
        at: similarities(before, maps(randomised), reduction)
        for at, randomised in cascade(case.model, case.x, case.draws, stages)
    }
    points = {
        f"{name}@{at:g}": found[name] for name in SIMILARITIES for at, found in curves.items()
    }
    means = {
        name: torch.stack([found[name] for found in curves.values()]).nanmean(0)
        for name in SIMILARITIES
    }
    return {
        "similarity": means["spearman_abs"],
        "signed_similarity": means["spearman"],
        "structural_similarity": means["ssim"],
        **points,
    }
