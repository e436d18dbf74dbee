"""The points of a curve as scores."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def points_of(name: str, curve: Tensor, fractions: Sequence[float]) -> dict[str, Tensor]:
    """The points of a curve (points, ...) as scores: "name@fraction" -> (...)."""
    return {f"{name}@{at:g}": row for at, row in zip(fractions, curve, strict=True)}
