"""Intervals: against scipy, at the edges, and by how often they cover a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmark.statistics.intervals import (
    MISSING,
    Estimate,
    average_seeds,
    combine_seeds,
    estimate,
    student,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (1, 10), (37, 50), (999, 1000), (20, 20)])
def test_wilson_is_scipys(successes: int, n: int) -> None:
    got = estimate(np.repeat([1.0, 0.0], [successes, n - successes]))
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert (got.value, got.n) == (successes / n, n)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert got.low <= got.value <= got.high
    assert got.stderr > 0


def test_student_is_scipys() -> None:
    scores = np.random.default_rng(0).normal(3, 2, 25)
    expected = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    got = estimate(scores)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high))
    assert got.stderr == pytest.approx(stats.sem(scores))


def test_nan_scores_are_left_out_and_not_counted() -> None:
    assert estimate([0.2, math.nan, 0.4, 0.9]) == estimate([0.2, 0.4, 0.9])
    partly = np.array([[1.0, 0.0, math.nan, 1.0], [1.0, 1.0, math.nan, 0.0], [math.nan] * 4])
    assert estimate(partly) == estimate(partly[:2, [0, 1, 3]])
    assert estimate(partly).n == 3


@pytest.mark.parametrize(
    "scores", [[], [math.nan], np.empty((2, 0)), np.full((2, 3), math.nan), np.empty((0, 3))]
)
def test_no_score_is_a_missing_estimate(scores: object) -> None:
    got = estimate(np.asarray(scores, dtype=float))
    assert got.n == 0
    assert all(math.isnan(x) for x in (got.value, got.low, got.high, got.stderr))


def test_one_score_has_no_interval() -> None:
    got = estimate([0.3])
    assert got.value == 0.3
    assert math.isnan(got.low)
    assert math.isnan(got.stderr)


def test_zeros_and_ones_of_another_range_are_no_proportion() -> None:
    assert estimate(np.ones(100)).low < 0.97
    certain = estimate(np.ones(100), unit=False)
    assert (certain.low, certain.high) == (1, 1)
    scores = np.repeat([1.0, 0.0], [90, 10])
    assert estimate(scores, unit=False) == student(scores)


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2, 2\).*\(n,\) or \(refits, n\)"):
        estimate(np.zeros((2, 2, 2)))


def test_refits_are_a_second_source_of_error() -> None:
    apart = np.repeat([[0.2], [0.4], [0.6]], 50, axis=1) + np.random.default_rng(0).normal(
        0, 0.01, (3, 50)
    )
    assert estimate(apart).stderr == pytest.approx(0.2 / math.sqrt(3), rel=0.05)
    # t with two degrees of freedom, not the 1.96 of 150 independent scores
    assert estimate(apart).high - estimate(apart).value == pytest.approx(
        4.303 * 0.2 / math.sqrt(3), rel=0.05
    )


def test_seeds_combine_as_documented() -> None:
    one, other = Estimate(0.6, 0.5, 0.7, 0.05, 100), Estimate(0.8, 0.7, 0.9, 0.05, 80)
    got = combine_seeds([one, MISSING, other])
    assert got.value == pytest.approx(0.7)
    assert got.stderr == pytest.approx(math.hypot(0.1, 0.05))
    assert got.high == pytest.approx(0.7 + math.hypot(0.1, 12.706 * 0.1), rel=1e-3)
    assert got.n == 80
    assert combine_seeds([one, other], bounds=(0, 1)).high == 1
    assert combine_seeds([one]) == one
    assert math.isnan(combine_seeds([]).value)


def test_unequal_intervals_combine_by_root_mean_square() -> None:
    one, other = Estimate(0.6, 0.5, 0.9, 0.05, 100), Estimate(0.6, 0.3, 0.7, 0.15, 100)
    below, above = math.hypot(0.1, 0.3) / math.sqrt(2), math.hypot(0.3, 0.1) / math.sqrt(2)
    for combine in (combine_seeds, average_seeds):
        got = combine([one, other])
        assert (got.low, got.high) == pytest.approx((0.6 - below, 0.6 + above))
        assert got.stderr == pytest.approx(math.hypot(0.05, 0.15) / math.sqrt(2))


def test_the_average_of_seeds_leaves_their_spread_out() -> None:
    one, other = Estimate(0.6, 0.5, 0.7, 0.05, 100), Estimate(0.9, 0.8, 1.0, 0.05, 80)
    got = average_seeds([one, MISSING, other])
    assert (got.value, got.low, got.high) == pytest.approx((0.75, 0.65, 0.85))
    assert (got.stderr, got.n) == (pytest.approx(0.05), 80)
    assert average_seeds([one], bounds=(0.55, 0.65)) == Estimate(0.6, 0.55, 0.65, 0.05, 100)
    assert math.isnan(average_seeds([]).value)


def test_equal_seeds_do_not_shrink_the_images_error() -> None:
    one = estimate(np.repeat([1.0, 0.0], [90, 10]))
    got = combine_seeds([one] * 3)
    assert (got.low, got.high) == pytest.approx((one.low, one.high))
    # at the end of the range Wilson's interval stays one-sided
    assert combine_seeds([estimate(np.ones(50))] * 2).high == 1


def coverage(networks: int, spread: float, trials: int = 400, n: int = 100) -> tuple[float, float]:
    """How often the intervals of (refits, n) and of combined seeds hold the true mean."""
    rng = np.random.default_rng(1)
    truth, hits = 0.6, np.zeros(2)
    for _ in range(trials):
        images, nets = rng.normal(0, 0.3, n), rng.normal(0, spread, (networks, 1))
        scores = truth + images + nets + rng.normal(0, 0.2, (networks, n))
        both = estimate(scores), combine_seeds([estimate(row) for row in scores])
        hits += [e.low <= truth <= e.high for e in both]
    return tuple(hits / trials)


@pytest.mark.parametrize("networks", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.03, 0.15])
def test_intervals_cover_the_truth(networks: int, spread: float) -> None:
    of_refits, of_seeds = coverage(networks, spread)
    assert of_seeds >= 0.93
    assert of_refits >= 0.93 or networks == 2, "two refits are averaged: their spread is not in it"


def test_two_refits_are_averaged() -> None:
    """A spread of two values would make more retrainings a wider interval."""
    scores = np.random.default_rng(0).normal([[0.0], [0.3]], 1, (2, 80))
    assert estimate(scores) == estimate(scores.mean(0))
    assert estimate(np.vstack([scores, scores[:1]])) != estimate(scores.mean(0))


@pytest.mark.parametrize("p", [0.05, 0.5, 0.97])
def test_proportions_cover_the_truth(p: float) -> None:
    rng = np.random.default_rng(2)
    estimates = [estimate(row) for row in (rng.random((1000, 200)) < p).astype(float)]
    assert 0.93 <= np.mean([e.low <= p <= e.high for e in estimates]) <= 0.985
