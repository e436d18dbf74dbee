"""What ROAR and KAR share: rank masks, filling, retraining at each removed fraction, areas between curves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metrics.attribution import Of, explain
from metrics.case import Case, Refit, Scores
from metrics.importance import pixel_map, top
from metrics.randomness import Draws


def fill(x: Tensor, removed: Tensor, value: Tensor) -> Tensor:
    """The images with `removed` pixels (n, H, W) set to a value per channel (C,)."""
    return torch.where(removed[:, None], value.view(1, -1, 1, 1), x)


def area_between(upper: Tensor, lower: Tensor, fractions: tuple[float, ...]) -> Tensor:
    """Trapezoid area of upper - lower over [0, 1], curves (points, ...) -> (...).

    The curves meet at 0 (nothing removed) and at 1 (everything removed), whatever the map.
    """
    zero = torch.zeros_like(upper[:1])
    heights = torch.cat([zero, upper - lower, zero])
    at = torch.tensor([0.0, *fractions, 1.0], device=upper.device)
    return torch.trapezoid(heights.movedim(0, -1), at)


def removal_curves(
    case: Case, *, attribution: str, of: Of, percents: tuple[int, ...], retrains: int, keep: bool
) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    """Accuracy of classifiers retrained on images without (or, with `keep`, with only) the top pixels.

    Returns correctness for the attribution and for random maps, each (points, retrains, n), and the removed
    fractions in rising order. The maps of training and test images are for the class that the model predicts.
    """
    explained = [
        (x, pixel_map(explain(case.model, x, draws, attribution=attribution, of=of)), draws)
        for x, draws in ((case.train_x, case.train_draws), (case.x, case.draws))
    ]
    # random maps depend on the image alone, and removing or keeping random pixels is the same thing, so that the
    # control's retrainings are shared by all models, all seeds, ROAR and KAR
    blind = []
    for x, _, draws in explained:
        own = Draws(0, draws.ids).fork("random")
        blind.append((x, own.uniform(*x.shape[2:]), own))

    marked = sorted((p / 100 for p in percents), reverse=keep)  # so that the removed fraction rises
    removed = tuple(1 - p if keep else p for p in marked)
    value = case.train_x.mean((0, 2, 3))

    def accuracy(
        images: list[tuple[Tensor, Tensor, Draws]], fractions: Sequence[float], keep: bool
    ) -> Tensor:
        refits = (
            Refit(train, test, seed)
            for fraction in fractions
            for train, test in [[_without(x, a, d, fraction, keep, value) for x, a, d in images]]
            for seed in range(retrains)
        )
        return case.refit(refits).view(len(fractions), retrains, -1)

    return accuracy(explained, marked, keep), accuracy(blind, removed, False), removed


def _without(
    x: Tensor, importance: Tensor, draws: Draws, fraction: float, keep: bool, value: Tensor
) -> Tensor:
    marked = top(importance, fraction, draws)
    return fill(x, ~marked if keep else marked, value)


def curve_scores(
    score: Tensor, curve: Tensor, control: Tensor, removed: tuple[float, ...]
) -> Scores:
    """The area and the points of both curves, each (retrains, n)."""
    points = {f"accuracy@{at:g}": row for at, row in zip(removed, curve, strict=True)}
    random = {f"random_accuracy@{at:g}": row for at, row in zip(removed, control, strict=True)}
    return {"score": score, **points, **random}
