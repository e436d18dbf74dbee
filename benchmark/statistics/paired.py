"""Paired comparisons of models that were judged on the same images: difference, interval, p value, what could be found.

What is compared is the mean score, over images, of the mean over a model's networks (seeds; refits of measures that
retrain). The image is the unit: its difference is that of the two models' means on it, so what makes an image hard for
both drops out. What is tested: with one or two seeds, whether these very networks differ over images drawn like these;
from three seeds on, whether the trainings do, whatever their seed.

- *p value*: 0/1 scores of one network each get McNemar's exact test (1947). Other scores of one or two networks get the
  test that it is a special case of: the signs of the images' differences are flipped at random, 9,999 times (the same
  flips for every comparison), and p is the share of flips whose mean is as far from 0 as the one that was seen. Where
  none of them is, p is 1/10,000 or what no share of all 2^n flips can exceed (Bentkus & Dzindzalieta 2015), whichever
  is smaller: after a correction for 500 comparisons and more a p of 1/10,000 would be noise. Where the spread of
  networks is part of the error, it is a t test: the variances over images and over the networks of either model add up,
  what they share (the noise of an image under a network) counts once, and Satterthwaite's degrees of freedom say how
  well the sum is known. The error is never below that over images alone: a few networks whose means agree by luck tell
  no more about trainings than about themselves. A model of too few networks to tell their spread is taken to be spread
  as the other is.
- *interval*: with a spread of networks the one of that t test. Otherwise Student's t over the images' differences; for
  0/1 scores after one image more on which only the one model is right and one on which only the other is (Bonett &
  Price 2012), so that it is no point where all images agree. With skewed scores a bootstrap covers less often than t.
- *0/1 scores* with a spread of networks: where neither images nor networks vary the interval is that one, too, and p is
  no smaller than the signs of the images that differ allow (2 / 2^m of m). With the two images in every such test a
  true null would be rejected in 1% instead of 4%, where a twentieth of the images is right.
- *detectable*: the true difference that a comparison like this one finds (p < 0.05, uncorrected) four times in five.

docs/statistics.md has the figures that these choices rest on (tests/peers/coverage.py prints them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from benchmark.statistics.intervals import ENOUGH_SEEDS, LEVEL, Floats

SIGNIFICANT = 0.05
"""Below it a p value tells a difference from noise, everywhere."""
FLIPS = 9_999
POWER = 0.8
_SEED = 20_231_117
"""Of the flips: the same records give the same p values."""
_NOTHING = 1e-12
"""A variance that is rounding: an image that differs makes it larger."""
_BLOCK = 1_000
"""Flips that are multiplied at once: what is held of them is small whatever the number of images."""


@dataclass(frozen=True)
class Difference:
    """The mean of one model minus that of another on `n` images, with its 95% interval and p value.

    `mean` and `baseline` are the two means on these images. `higher` and `lower` count the images on which the
    difference is above and below 0. `test` says how p was found.
    """

    value: float
    low: float
    high: float
    p: float
    n: int
    higher: int
    lower: int
    detectable: float
    test: str
    mean: float
    baseline: float


MCNEMAR = "exact McNemar test"
FLIPPED = "sign-flip permutation test"
NETWORKS = "t test over images and networks"
_NAN = float("nan")
_NONE = Difference(_NAN, _NAN, _NAN, _NAN, 0, 0, 0, _NAN, "", _NAN, _NAN)


class _Part(NamedTuple):
    """A part of the variance of a mean, and its degrees of freedom."""

    variance: float
    freedom: float


class _Luck(NamedTuple):
    """What drawing other networks would change."""

    spread: float
    """The variance of a network's mean over images."""
    noise: float
    """The variance of an image's score under a network that no other image and no other network shares."""
    networks: int
    freedom: float


def difference(scores: ArrayLike, baseline: ArrayLike) -> Difference:
    """`scores` minus `baseline`, each of shape (n,), (seeds, n) or (seeds, refits, n), on the same n images.

    A `baseline` that is a number was given by no network and has no spread. Images that one of the networks has no
    score of (NaN) are left out, and seeds without any score; ValueError if the numbers of images differ.
    """
    return differences([scores], baseline)[0]


def differences(many: Sequence[ArrayLike], baseline: ArrayLike) -> list[Difference]:
    """Each of `many` minus `baseline`; the flips of their signs are drawn once for all."""
    others, exact = [_networks(scores) for scores in many], np.ndim(baseline) == 0
    base = None if exact else _networks(baseline)
    pairs = [
        _whole(other, np.full((1, 1, other.shape[-1]), baseline) if base is None else base)
        for other in others
    ]
    tests = [_test(*pair) for pair in pairs]
    each = [one.mean((0, 1)) - other.mean((0, 1)) for one, other in pairs]
    flipped = iter(_flips([d for d, test in zip(each, tests, strict=True) if test == FLIPPED]))
    return [
        _difference(*pair, test, next(flipped) if test == FLIPPED else None, exact)
        for pair, test in zip(pairs, tests, strict=True)
    ]


def mcnemar(higher: int, lower: int) -> float:
    """The two-sided exact p value from the numbers of images that only the one and only the other model gets right."""
    return float(stats.binomtest(higher, higher + lower).pvalue) if higher + lower else 1.0


def holm(p: ArrayLike) -> Floats:
    """p values after Holm's correction (1979) for as many tests as have one; NaN stays and is not counted."""
    given = np.asarray(p, dtype=np.float64)
    order = np.argsort(given)[: int(np.isfinite(given).sum())]
    steps = given[order] * np.arange(len(order), 0, -1)
    corrected = np.full(given.shape, np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def _difference(
    one: Floats, other: Floats, test: str, flipped: Floats | None, exact: bool
) -> Difference:
    if not test:
        return _NONE
    d = one.mean((0, 1)) - other.mean((0, 1))
    value, higher, lower = float(d.mean()), int((d > 0).sum()), int((d < 0).sum())
    centre, stderr, freedom = _error(d, *((one,) if exact else (one, other)))
    if flipped is not None:
        p = _share(d, flipped)
    else:
        p = mcnemar(higher, lower) if test == MCNEMAR else _tail(value, stderr, freedom)
        if _binary(one) and _binary(other):
            p = max(p, min(1.0, 2.0 ** (1 - higher - lower)))
    reach = stderr * float(stats.t.ppf((1 + LEVEL) / 2, freedom))
    detectable = reach + stderr * float(stats.norm.ppf(POWER))
    return Difference(
        value, centre - reach, centre + reach, p, len(d), higher, lower, detectable, test,
        float(one.mean()), float(other.mean()),
    )  # fmt: skip


def _error(d: Floats, *sides: Floats) -> tuple[float, float, float]:
    """The centre of the interval, the standard error and its degrees of freedom."""
    n = len(d)
    networks, noise = _networks_parts(sides)
    images = _Part(max(0.0, float(d.var(ddof=1)) - noise) / n, n - 1)
    parts = [images, *networks]
    variance = sum(part.variance for part in parts)
    least = float(d.var(ddof=1)) / n
    if all(map(_binary, sides)) and (not networks or max(variance, least) < _NOTHING):
        d = np.concatenate([d, [1.0, -1.0]])
        return float(d.mean()), float(d.std() / np.sqrt(len(d))), len(d) - 1
    weights = sum(part.variance**2 / part.freedom for part in parts)
    freedom = variance**2 / weights if weights else n - 1
    return float(d.mean()), float(np.sqrt(max(variance, least))), freedom


def _tail(value: float, stderr: float, freedom: float) -> float:
    if stderr == 0:
        return float(value == 0)
    return float(2 * stats.t.sf(abs(value) / stderr, freedom))


def _networks(scores: ArrayLike) -> Floats:
    """(seeds, refits, n) of what has fewer axes."""
    array = np.asarray(scores, dtype=np.float64)
    if not 1 <= array.ndim <= 3:
        raise ValueError(
            f"scores of shape {array.shape}: valid are (n,), (seeds, n), (seeds, refits, n)"
        )
    array = array.reshape(-1, array.shape[-2] if array.ndim == 3 else 1, array.shape[-1])
    known = array[np.isfinite(array).any((1, 2))]
    return known if len(known) else array[:1]


def _whole(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Both without the images that a network has no score of; ValueError if they are of other numbers of images."""
    if one.shape[-1] != other.shape[-1]:
        raise ValueError(
            f"scores of {one.shape[-1]} and of {other.shape[-1]} images: a paired comparison takes the same images"
        )
    seen = np.isfinite(one).all((0, 1)) & np.isfinite(other).all((0, 1))
    return one[..., seen], other[..., seen]


def _binary(scores: Floats) -> bool:
    return bool(np.isin(scores, (0.0, 1.0)).all())


def _test(one: Floats, other: Floats) -> str:
    if one.shape[-1] < 2:
        return ""  # nothing to compare
    if _spread(one) or _spread(other):
        return NETWORKS
    single = one.shape[:2] == other.shape[:2] == (1, 1)
    return MCNEMAR if single and _binary(one) and _binary(other) else FLIPPED


def _spread(scores: Floats) -> bool:
    """Whether there are networks enough to say how much another would differ."""
    return scores.shape[0] >= ENOUGH_SEEDS or scores.shape[1] > 1


def _networks_parts(sides: Sequence[Floats]) -> tuple[list[_Part], float]:
    """What drawing other networks would change in a difference, and how much noise of networks an image's has."""
    known = [_luck(scores) for scores in sides if _spread(scores)]
    # a side that cannot tell has the other's luck: with none it would be held to be exact
    lent = sum(1 / scores.shape[0] for scores in sides if not _spread(scores))
    shares = [(luck, 1 / luck.networks + lent) for luck in known]
    parts = [_Part(luck.spread * share, luck.freedom) for luck, share in shares]
    return parts, sum(luck.noise * share for luck, share in shares)


def _luck(scores: Floats) -> _Luck:
    """Of other seeds if there are enough of them, otherwise of other refits."""
    if scores.shape[0] >= ENOUGH_SEEDS:
        scores = scores.mean(axis=1)[None]  # one group of networks: the seeds
    means = scores.mean(axis=2)
    groups, members = means.shape
    freedom = groups * (members - 1)
    rest = scores - scores.mean(axis=1, keepdims=True)
    rest = rest - rest.mean(axis=2, keepdims=True)
    noise = float((rest**2).sum()) / (freedom * (scores.shape[2] - 1))
    return _Luck(float(means.var(axis=1, ddof=1).mean()), noise, means.size, freedom)


def _share(d: Floats, flipped: Floats) -> float:
    """p of a test by permutation; sums of the same numbers in another order are the same."""
    as_far = int((flipped >= abs(d.mean()) * (1 - 1e-9)).sum())
    drawn = (as_far + 1) / (FLIPS + 1)
    return drawn if as_far else min(drawn, _most(d))


def _most(d: Floats) -> float:
    """What the share of all flips whose sum is as far from 0 cannot exceed: a multiple of the normal tail.

    It is a p value by itself, and so is the smaller of both where no drawn flip is as far: what is below the least
    share that draws can have is decided by the bound alone, all else by the draws.
    """
    farness = abs(d.sum()) / np.sqrt((d**2).sum())
    return float(2 * stats.norm.sf(farness) / (4 * stats.norm.sf(np.sqrt(2))))


def _flips(each: Sequence[Floats]) -> list[Floats]:
    """For each (n,) of differences the |means| after flipping signs at random; the same flips for all of one length."""
    found: dict[int, NDArray[Any]] = {}
    for n in {len(d) for d in each}:
        rng = np.random.default_rng(_SEED)
        known = np.stack([d for d in each if len(d) == n], axis=1)
        blocks = [
            np.abs(_signs(rng, min(_BLOCK, FLIPS - start), n) @ known)
            for start in range(0, FLIPS, _BLOCK)
        ]
        found[n] = np.concatenate(blocks) / n
    columns = {n: iter(means.T) for n, means in found.items()}
    return [next(columns[len(d)]) for d in each]


def _signs(rng: np.random.Generator, rows: int, n: int) -> NDArray[np.float64]:
    bits = np.unpackbits(
        np.frombuffer(rng.bytes(rows * -(-n // 8)), np.uint8).reshape(rows, -1), axis=1
    )
    return np.where(bits[:, :n], 1.0, -1.0)
