"""What measures with a ground-truth mask share: the pixels that a map should point at, and chance."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.case import Case, NotApplicable, Scores


def true_mask(case: Case) -> Tensor:
    """The pixels that carry the class, bool (n, H, W); NotApplicable where the data set does not know them."""
    mask = case.mask()
    if mask is None:
        raise NotApplicable("needs a data set that knows which pixels carry the class")
    return mask


def beside_chance(name: str, found: Tensor, mask: Tensor) -> Scores:
    """The measure and what random maps score, the share of the mask (n, pixels); NaN where the mask is empty."""
    chance = mask.double().mean(1)
    scores = {name: found, "chance": chance}
    return {key: values.where(chance > 0, torch.nan).float() for key, values in scores.items()}
