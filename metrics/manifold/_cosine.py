"""Angles between maps."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Cosine of each pair of maps (n, ...), shape (n,); NaN where a map is zero."""
    return F.cosine_similarity(_scaled(one), _scaled(other))


def _scaled(maps: Tensor) -> Tensor:
    """Rows whose largest number is 1: torch takes products of lengths below 1e-8 for 1e-8."""
    rows = maps.flatten(1)
    return rows / rows.abs().amax(1, keepdim=True)
