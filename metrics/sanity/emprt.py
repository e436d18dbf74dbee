"""Efficient model parameter randomisation test."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores
from metrics.importance import Reduction, pixel_map
from metrics.maps import Target, explained_class
from metrics.sanity._randomisation import cascade


def emprt(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    reduction: Reduction = "sum",
    bins: Annotated[int, Ge(2)] = 100,
    target: Target = "predicted",
) -> Scores:
    """How much more complex the map becomes when the model forgets all that it has learnt.

    Label: eMPRT {attribution}
    Formula: (H(A') - H(A)) / H(A), H the entropy of the histogram of the map (one number per pixel) over its own range,
        A' the map of the model with new weights in all layers; both maps for the class predicted by the model
    Measures:
        rise (higher, -1..inf): The relative rise of the entropy; 0 for a map that does not depend on the model, NaN
            for a constant map.
        entropy (none, 0..inf): H(A), in nats.
        random_entropy (none, 0..inf): H(A').
    Map: by `reduction`, one number per pixel: unless told otherwise the signed sum over channels.
    Chance: 0 for a map that does not depend on the model, as `random` and `sobel`.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        bins: Bins of the histogram, of equal width.
        target: The class that is explained.
    Cost: 2 maps per image
    Pitfalls: the entropy cannot exceed the logarithm of the number of pixels, so small images leave little room to
        rise. New weights are torch's default of each layer, whatever the training began with.
    Paper: Hedström et al. 2023, "Sanity checks revisited: an exploration to repair the model parameter randomisation
        test"
    """
    explained = explained_class(case, target)
    ((_, forgetful),) = cascade(case.model, case.x, case.draws, stages=1)
    maps = (
        explain(model, case.x, case.draws, attribution=attribution, of=of, target=explained)
        for model in (case.model, forgetful)
    )
    before, after = (_entropy(pixel_map(each, reduction), bins) for each in maps)
    rise = ((after - before) / before).where(before > 0, torch.nan)
    return {"rise": rise.float(), "entropy": before.float(), "random_entropy": after.float()}


def _entropy(maps: Tensor, bins: int) -> Tensor:
    """Entropy of each map's histogram, (n, H, W) -> float64 (n,): 0 for a constant map, NaN where it holds a NaN."""
    values = maps.flatten(1).double()
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    inside = (values - low) / (high - low)
    # the last bin holds its upper end; a constant map is all in one
    bin_of = (inside.nan_to_num(0.0) * bins).floor().clamp(max=bins - 1).long()
    counts = values.new_zeros(len(values), bins).scatter_add_(1, bin_of, torch.ones_like(values))
    p = counts / values.shape[1]
    found = torch.special.entr(p).sum(1)
    return found.where(values.isfinite().all(1), torch.nan)
