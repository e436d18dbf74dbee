"""Over models: how two quantities go together, and which models nothing beats in all quantities at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from benchmark.statistics.intervals import LEVEL

_FEWEST = 4
"""Models from which Fisher's transformation gives an interval."""


@dataclass(frozen=True)
class Correlation:
    """A coefficient in [-1, 1] over `n` models, with its 95% interval.

    The interval is NaN for fewer than 4 models and for a coefficient of 1 or -1, where the transformation ends.
    """

    value: float
    low: float
    high: float
    n: int


def pearson(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Linear correlation of two quantities, a value a model; the interval is Fisher's (1915).

    Models without a value (NaN) are left out. NaN where a quantity is constant or fewer than 3 models are left.
    """
    a, b = _known(x, y)
    if _constant(a, b):
        return _nothing(len(a))
    return _correlation(float(stats.pearsonr(a, b).statistic), len(a), 1.0)


def spearman(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Rank correlation; the interval is Fisher's with the variance of Bonett & Wright (2000)."""
    a, b = _known(x, y)
    if _constant(a, b):
        return _nothing(len(a))
    value = float(stats.spearmanr(a, b).statistic)
    return _correlation(value, len(a), 1 + value**2 / 2)


def pareto_front(values: ArrayLike, higher: Sequence[bool]) -> NDArray[np.bool_]:
    """Which models no other beats: as good in every quantity and better in one.

    `values` is (models, quantities); `higher` says of each quantity whether higher is better. A model without one of
    the values is not on the front. Equal models are on it together.
    """
    signed = np.asarray(values, dtype=np.float64) * np.where(higher, 1.0, -1.0)
    whole = signed[np.isfinite(signed).all(axis=1)]
    return np.array([np.isfinite(one).all() and not _beaten(one, whole) for one in signed], bool)


def _beaten(one: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    return bool(((others >= one).all(axis=1) & (others > one).any(axis=1)).any())


def _known(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = (np.asarray(each, dtype=np.float64) for each in (x, y))
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"values of shape {a.shape} and {b.shape}: a correlation takes two of shape (models,)"
        )
    seen = np.isfinite(a) & np.isfinite(b)
    return a[seen], b[seen]


def _constant(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return len(a) < 3 or bool(np.ptp(a) == 0 or np.ptp(b) == 0)


def _nothing(n: int) -> Correlation:
    return Correlation(np.nan, np.nan, np.nan, n)


def _correlation(value: float, n: int, variance: float) -> Correlation:
    if n < _FEWEST or abs(value) > 1 - 1e-12:  # the ends have no transform
        return Correlation(value, np.nan, np.nan, n)
    reach = float(stats.norm.ppf((1 + LEVEL) / 2)) * np.sqrt(variance / (n - 3))
    low, high = np.tanh(np.arctanh(value) + np.array([-reach, reach]))
    return Correlation(value, float(low), float(high), n)
