"""How alike two maps of an image are."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.case import in_batches
from metrics.importance import pixel_map
from metrics.maps import Magnitude
from metrics.ranks import spearman
from metrics.ssim import ssim, unit_range

SIMILARITIES = ("spearman_abs", "spearman", "ssim")


def similarities(
    maps: Tensor, others: Tensor, reduction: Magnitude = "sum_abs"
) -> dict[str, Tensor]:
    """Rank correlation of the importances, the same of the signed maps, and SSIM of the importances; (n,) each.

    Importance is by the reduction, a signed map is the sum over channels; for SSIM importances are moved and scaled to
    [0, 1]. All are 1 for equal maps and NaN where a map is constant.
    """

    def found(maps: Tensor, others: Tensor) -> Tensor:
        a, b = pixel_map(maps, reduction), pixel_map(others, reduction)
        columns = [
            spearman(a.flatten(1), b.flatten(1)),
            spearman(maps.sum(1).flatten(1), others.sum(1).flatten(1)),
            ssim(unit_range(a), unit_range(b)),
        ]
        return torch.stack(columns, 1)

    each = in_batches(found, maps, others).float().unbind(1)
    return dict(zip(SIMILARITIES, each, strict=True))
