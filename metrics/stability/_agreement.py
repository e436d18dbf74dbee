"""How two maps of an image agree, and which images count."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.case import Case, Scores, predict
from metrics.importance import Reduction, pixel_map, top
from metrics.randomness import Draws
from metrics.ranks import kendall, spearman

AGREEMENT = ("intersection", "kendall", "spearman", "cosine")
"""The columns of `agreement`."""


def agreement(
    before: Tensor,
    after: Tensor,
    share: float,
    draws: Draws,
    reduction: Reduction = "sum_abs",
) -> Tensor:
    """Agreement of two signed maps (n, C, H, W) of the same images, float64 (n, 4): the columns of AGREEMENT.

    The intersection is of their most important pixels, a `share` of all; Kendall's tau and Spearman's correlation are
    of the importance of all pixels, the cosine of the signed maps.
    """
    one, other = (pixel_map(maps, reduction) for maps in (before, after))
    columns = [
        intersection(top_pixels(one, share, draws), other, draws),
        kendall(one.flatten(1), other.flatten(1)),
        spearman(one.flatten(1), other.flatten(1)),
        cosine(before, after),
    ]
    return torch.stack(columns, 1)


def top_pixels(importance: Tensor, share: float, draws: Draws) -> Tensor:
    """A share of the pixels (n, H, W), at least one, the most important ones; bool."""
    return top(importance, max(share, 1 / importance[0].numel()), draws)


def intersection(pixels: Tensor, importance: Tensor, draws: Draws) -> Tensor:
    """The part of `pixels` (n, H, W) that are still among as many most important ones, float64 (n,)."""
    count = pixels[0].sum()
    kept = pixels & top(importance, float(count / pixels[0].numel()), draws)
    found = kept.sum((1, 2)).double() / count
    return found.where(~importance.isnan().any(2).any(1), torch.nan)


def cosine(before: Tensor, after: Tensor) -> Tensor:
    """Cosine between the signed maps, float64 (n,); NaN for a zero map."""
    one, other = (unit(maps) for maps in (before, after))
    return (one * other).sum(1).clamp(-1, 1)


def unit(maps: Tensor) -> Tensor:
    """Maps of Euclidean length 1, float64 (n, d); NaN for a zero map."""
    flat = maps.flatten(1).double()
    return flat / flat.norm(dim=1, keepdim=True)


def of_correct(case: Case, scores: Scores) -> Scores:
    """The scores as float32, NaN for images that the model misclassifies: their maps explain another class."""
    correct = predict(case.model, case.x) == case.y
    return {name: values.float().where(correct, torch.nan) for name, values in scores.items()}
