"""Intervals: from per-image scores to a mean with its 95% interval, and over seeds (comparisons: paired.py).

Sampling images and drawing networks (seeds, refits) are two sources of error. Networks are judged on the *same* images,
so averaging over networks does not shrink the error of the images; the two parts are added. How they are added: each
part's own distance from the mean to its 95% limit, with the t quantile of that part's own degrees of freedom, combined
as the root of the sum of squares and separately below and above (MOVER: Zou & Donner 2008). This keeps Wilson's
asymmetry near 0 and 1, and with two seeds it is wide, as it has to be: one difference says little about a spread.
The usual alternative, one t quantile with Satterthwaite's degrees of freedom, covers too rarely (86% in our
simulation) when two seeds happen to agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

LEVEL = 0.95
ENOUGH_SEEDS = 3
"""Seeds, or refits, from which their spread is part of an interval: with two, Student's t makes it 13 standard errors
wide, and more work would make a result less certain."""

_TAIL = (1 + LEVEL) / 2
_Z = float(ndtri(_TAIL))
_UNBOUNDED = (-np.inf, np.inf)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval, its standard error, and the number of images (scores) behind it.

    The interval is NaN where a single score gives none. `stderr` of a proportion is Wilson's: half of the interval's
    width over 1.96, not zero at 0 and 1.
    """

    value: float
    low: float
    high: float
    stderr: float
    n: int


MISSING = Estimate(np.nan, np.nan, np.nan, np.nan, 0)


def estimate(scores: ArrayLike, unit: bool = True) -> Estimate:
    """Mean and 95% interval of scores of shape (n,), or (refits, n) where refits share the n images.

    0/1 scores of a measure whose range is 0 to 1 (`unit`) get Wilson's interval, others Student's t. For (refits, n)
    the parts of images (scores averaged over refits) and of refits (means over images, t with refits - 1 degrees of
    freedom) are added as the module says; both parts contain the images-by-refits noise, which errs on the wide side.
    Fewer than three refits are averaged. NaN scores are left out.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim not in (1, 2):
        raise ValueError(f"scores of shape {array.shape}: an estimate takes (n,) or (refits, n)")
    seen = np.isfinite(array)
    if array.ndim == 1:
        return _over_images(array[seen], unit)
    array, seen = array[seen.any(axis=1)], seen[seen.any(axis=1)]
    images = _over_images(_means(array, seen, axis=0), unit)
    return images if len(array) < ENOUGH_SEEDS else _widened(images, _means(array, seen, axis=1))


def combine_seeds(
    estimates: Sequence[Estimate], bounds: tuple[float, float] = _UNBOUNDED
) -> Estimate:
    """One estimate from those of several seeds on the same images, with the spread of the seeds in its interval.

    stderr^2 = variance over seeds / seeds + mean stderr^2: the images are shared, so their error does not average out.
    The interval adds the parts as the module says, with seeds - 1 degrees of freedom for the spread, and is cut to
    `bounds` (0 and 1 for an accuracy). A single seed has no spread. Seeds without a value are left out; `n` is the
    fewest images of a seed.
    """
    values = np.array([e.value for e in estimates if np.isfinite(e.value)])
    images = average_seeds(estimates)
    return _cut(images if len(values) < 2 else _widened(images, values), bounds)


def average_seeds(
    estimates: Sequence[Estimate], bounds: tuple[float, float] = _UNBOUNDED
) -> Estimate:
    """The mean over seeds with the interval over the images alone: how far these very networks' mean may be off.

    The distances to the limits are the root mean squares of the seeds' own, as if the seeds erred on the same images
    (they mostly do); so the interval is rather too wide than too narrow. For too few seeds to speak of a spread.
    """
    valid = [e for e in estimates if np.isfinite(e.value)]
    if not valid:
        return MISSING
    values = np.array([e.value for e in valid])
    images = (
        valid[0]
        if len(valid) == 1
        else Estimate(
            float(values.mean()),
            float(values.mean() - _root_mean_square([e.value - e.low for e in valid])),
            float(values.mean() + _root_mean_square([e.high - e.value for e in valid])),
            _root_mean_square([e.stderr for e in valid]),
            min(e.n for e in valid),
        )
    )
    return _cut(images, bounds)


def wilson(successes: float, n: int) -> Estimate:
    """Wilson's score interval of a proportion (1927), without continuity correction."""
    if n == 0:
        return MISSING
    p, z2 = successes / n, _Z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * float(np.sqrt(p * (1 - p) / n + z2 / (4 * n**2)))
    # exact at the ends, where rounding would put the limit a hair inside the value
    return Estimate(p, min(p, centre - half), max(p, centre + half), half / _Z, n)


def student(scores: Floats) -> Estimate:
    """Student's t interval of a mean; a single score has a value and no interval."""
    n = len(scores)
    if n == 0:
        return MISSING
    mean = float(scores.mean())
    if n == 1:
        return Estimate(mean, np.nan, np.nan, np.nan, 1)
    stderr = float(scores.std(ddof=1) / np.sqrt(n))
    reach = float(stdtrit(n - 1, _TAIL)) * stderr
    return Estimate(mean, mean - reach, mean + reach, stderr, n)


def _over_images(scores: Floats, unit: bool) -> Estimate:
    # of another range (-1 to 1, 0 to eps) scores that happen to be 0 and 1 are no proportion
    proportion = unit and np.isin(scores, (0.0, 1.0)).all()
    return wilson(float(scores.sum()), len(scores)) if proportion else student(scores)


def _means(array: Floats, seen: NDArray[np.bool_], axis: int) -> Floats:
    """Means over the scores that are there, for the rows (columns) that have one."""
    counts = seen.sum(axis=axis)
    sums = np.where(seen, array, 0.0).sum(axis=axis)
    return np.asarray(sums[counts > 0] / counts[counts > 0], dtype=np.float64)


def _widened(images: Estimate, group_means: Floats) -> Estimate:
    """The images' interval, widened by the spread of the networks' means."""
    networks = student(group_means)
    reach = networks.high - networks.value
    value = networks.value
    # a part without an interval (one score) adds nothing
    below = np.hypot(np.nan_to_num(images.value - images.low), reach)
    above = np.hypot(np.nan_to_num(images.high - images.value), reach)
    stderr = np.hypot(np.nan_to_num(images.stderr), networks.stderr)
    return Estimate(value, float(value - below), float(value + above), float(stderr), images.n)


def _cut(e: Estimate, bounds: tuple[float, float]) -> Estimate:
    """The interval within the range of the measure; rounding may have put a value a hair outside."""
    low, high = (float(np.clip(end, *bounds)) for end in (e.low, e.high))
    return Estimate(e.value, low, high, e.stderr, e.n)


def _root_mean_square(parts: Sequence[float]) -> float:
    finite = np.array([part for part in parts if np.isfinite(part)])
    return float(np.sqrt((finite**2).mean())) if len(finite) else np.nan
