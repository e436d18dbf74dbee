"""Rank statistics of many maps at once: how two orders agree, and how well an order finds a set of pixels.

Arguments are (n, pixels), results float64 (n,). Ties are shared, never broken. NaN where a map holds a NaN, and where
the statistic does not exist: no order in a constant map, nothing to find in an empty set.
"""

from __future__ import annotations

import torch
from scipy import stats
from torch import Tensor


def midranks(values: Tensor) -> Tensor:
    """Ranks 1 .. pixels in ascending order, shape kept; equal values share the mean of their ranks."""
    ordered = values.sort(1).values
    below = torch.searchsorted(ordered, values)
    up_to = torch.searchsorted(ordered, values, right=True)
    return _unless_nan(values, (below + up_to + 1).double() / 2)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation, -1..1."""
    one, other = (midranks(values) - (values.shape[1] + 1) / 2 for values in (a, b))
    return ((one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))).clamp(-1, 1)


def kendall(a: Tensor, b: Tensor) -> Tensor:
    """Kendall's tau-b, -1..1, image by image on the CPU (pixels x log pixels steps)."""
    pairs = zip(a.detach().cpu().numpy(), b.detach().cpu().numpy(), strict=True)
    taus = [
        float(stats.kendalltau(one, other, method="asymptotic").statistic) for one, other in pairs
    ]
    return torch.tensor(taus, dtype=torch.float64, device=a.device)


def roc_auc(score: Tensor, positive: Tensor) -> Tensor:
    """The chance that a pixel of the set (bool) has a higher score than one outside, ties counted half, 0..1."""
    count = positive.sum(1).double()
    ranks = (midranks(score) * positive).sum(1)
    return (ranks - count * (count + 1) / 2) / (count * (score.shape[1] - count))


def average_precision(score: Tensor, positive: Tensor) -> Tensor:
    """Mean precision at the scores of the set's pixels (bool), 0..1; the share of the set for a constant score."""
    # precision at a pixel: the set's part of all pixels that score at least as high
    found = _at_least(score.where(positive, -torch.inf), score)
    precision = _unless_nan(score, found / _at_least(score, score))
    return (precision * positive).sum(1) / positive.sum(1)


def _at_least(values: Tensor, limits: Tensor) -> Tensor:
    """How many values of its row reach each limit, float64, shape of `limits`."""
    below = torch.searchsorted(values.sort(1).values, limits)
    return (values.shape[1] - below).double()


def _unless_nan(values: Tensor, results: Tensor) -> Tensor:
    return results.where(~values.isnan().any(1, keepdim=True), torch.nan)
