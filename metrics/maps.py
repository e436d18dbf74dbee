"""What a metric of maps lets one choose: the class that is explained, and how channels become one number a pixel."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, predict
from metrics.importance import Reduction, pixel_map

Target = Literal["predicted", "true"]
Magnitude = Literal["sum_abs", "abs_sum", "max_abs", "l2"]
"""The reductions that are never negative: shares of a whole have no meaning for anything else."""
Kept = Literal["none", "sum_abs", "abs_sum", "sum", "max_abs", "l2"]
"""The reductions, and none: every channel of a pixel stays a number of its own."""


def explained_class(case: Case, target: Target) -> Tensor:
    """The class that is explained, (n,): the one predicted on the unchanged image, or the true one."""
    return case.y if target == "true" else predict(case.model, case.x)


def importance(
    case: Case, *, attribution: AttributionName, of: Of, reduction: Reduction, target: Target
) -> Tensor:
    """Importance of every pixel of the case's images for a class, (n, H, W)."""
    maps = explain(
        case.model, case.x, case.draws, attribution=attribution, of=of,
        target=explained_class(case, target),
    )  # fmt: skip
    return pixel_map(maps, reduction)


def reduced(maps: Tensor, reduction: Kept) -> Tensor:
    """Maps (n, C, H, W) as they are, or their pixels' importance as one channel (n, 1, H, W)."""
    return maps if reduction == "none" else pixel_map(maps, reduction)[:, None]
