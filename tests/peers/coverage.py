"""How often 95% intervals hold the truth, and how often p < 0.05 and 0.01 are wrong: the figures of docs/statistics.md.

    python tests/peers/coverage.py

Two models that are equally good, 120 images of which some are harder for both, networks `spread` apart; and, for the
choice between Student's t and the bootstrap, differences of log-normal scores.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from scipy import stats

from benchmark.report.tables.best import with_best
from benchmark.report.tables.cells import EMPTY, Column
from benchmark.statistics.intervals import combine_seeds, estimate
from benchmark.statistics.paired import difference

TRIALS = 2000
UNEQUAL = ((3, 1), (3, 2), (3, 3), (10, 1))
KINDS = {
    "0/1 scores, one network": (1, 1, 0.0, True),
    "0/1 scores, two seeds": (2, 1, 0.0, True),
    "0/1 scores, three seeds": (3, 1, 0.1, True),
    "0/1 scores, one network, 5% right": (1, 1, 0.0, True, 1.64),
    "0/1 scores, three seeds, 5% right": (3, 1, 0.1, True, 1.64),
    "0/1 scores, three seeds, 1% right": (3, 1, 0.1, True, 2.33),
    "0/1 scores, ten seeds, 99% right": (10, 1, 0.1, True, -2.33),
    "other scores, one network": (1, 1, 0.0, False),
    "other scores, two seeds": (2, 1, 0.0, False),
    "other scores, three seeds alike": (3, 1, 0.0, False),
    "other scores, three seeds apart": (3, 1, 0.1, False),
    "other scores, ten seeds apart": (10, 1, 0.3, False),
    "two seeds of two refits": (2, 2, 0.2, False),
    "one seed of three refits": (1, 3, 0.2, False),
}


def model(
    rng: np.random.Generator, hard: np.ndarray, seeds: int, refits: int, spread: float, binary: bool,
    bar: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """Scores (seeds, refits, n) around 0, or whether they are above the bar."""
    own = hard + rng.normal(0, 0.5, len(hard))
    networks = rng.normal(0, spread, (seeds, refits, 1))
    scores = own + networks + rng.normal(0, 0.5, (seeds, refits, len(hard)))
    return (scores > bar).astype(float) if binary else scores


def comparisons() -> None:
    print("| comparison | interval covers | p < 0.05 without a difference | p < 0.01 |")
    print("| :-- | --: | --: | --: |")
    for kind, how in KINDS.items():
        rng, covered, wrong, very = np.random.default_rng(0), 0, 0, 0
        for _ in range(TRIALS):
            hard = rng.normal(0, 0.7, 120)
            got = difference(model(rng, hard, *how), model(rng, hard, *how))
            covered += got.low <= 0 <= got.high
            wrong += got.p < 0.05
            very += got.p < 0.01
        shares = " | ".join(f"{100 * found / TRIALS:.1f}%" for found in (covered, wrong, very))
        print(f"| {kind} | {shares} |")


def shared_controls() -> None:
    """Rows of a table against one control: scores relative to the mean of its retrainings, which it is itself."""
    print(
        "\n| against a control that all rows share | p < 0.05 without a difference |\n| :-- | --: |"
    )
    for seeds, refits, again in (
        (3, 1, 3),
        (3, 3, 3),
        (10, 1, 3),
        (10, 3, 3),
        (3, 1, 10),
        (1, 3, 3),
        (1, 1, 3),
        (2, 1, 3),
        (2, 2, 3),
    ):
        rng, wrong = np.random.default_rng(0), 0
        for _ in range(TRIALS):
            hard = rng.normal(0, 0.7, 120)
            control = model(rng, hard, 1, again, 0.1, binary=True)
            chance = control.mean(1, keepdims=True)
            own = chance - model(rng, hard, seeds, refits, 0.1, binary=True)
            wrong += difference(own, chance - control).p < 0.05
        print(
            f"| seeds: {seeds}, refits: {refits}, of the control: {again} | {100 * wrong / TRIALS:.1f}% |"
        )


def unequal_seeds() -> None:
    """A model of fewer seeds is taken to be spread as the other one is; and what it would be to hold it to be exact."""
    print("\n| seeds | images | p < 0.05 without a difference | if the fewer were exact |")
    print("| :-- | --: | --: | --: |")
    for (many, few), images in itertools.product(UNEQUAL, (120, 1000)):
        rng, wrong, exact = np.random.default_rng(0), 0, 0
        for _ in range(TRIALS // 2):
            hard = rng.normal(0, 0.7, images)
            one, other = (model(rng, hard, seeds, 1, 0.1, binary=True) for seeds in (many, few))
            wrong += difference(one, other).p < 0.05
            exact += difference(one - other.mean(0), 0.0).p < 0.05
        shares = " | ".join(f"{200 * found / TRIALS:.1f}%" for found in (wrong, exact))
        print(f"| {many} and {few} | {images} | {shares} |")


def bold() -> None:
    """Columns of equally good models of 1,000 images in which one is marked as the best, or called worse than it."""
    print("\n| rows of a column, equally good | any is significantly worse |\n| :-- | --: |")
    column = Column("robustness", "", "", "accuracy", "higher", 1.0, ".3f")
    for rows in (2, 3, 5, 10, 20):
        rng, wrong = np.random.default_rng(0), 0
        for _ in range(TRIALS // 10):
            scores = (rng.random((rows, 1, 1, 1000)) < 0.8).astype(float)
            found = [estimate(own[0, 0]) for own in scores]
            cells = [replace(EMPTY, mean=e.value, low=e.low, high=e.high) for e in found]
            named = [replace(cell, shown=f"{cell.mean:.3f}") for cell in cells]
            wrong += any(cell.best for cell in with_best(named, column, list(scores)))
        print(f"| {rows} | {1000 * wrong / TRIALS:.1f}% |")


def means() -> None:
    print("\n| mean of one model | interval covers |\n| :-- | --: |")
    for networks, spread in ((1, 0.0), (3, 0.0), (3, 0.15), (5, 0.15), (10, 0.15)):
        rng, covered = np.random.default_rng(0), 0
        for _ in range(TRIALS):
            hard = rng.normal(0, 0.3, 100)
            nets = rng.normal(0, spread, (networks, 1))
            scores = hard + nets + rng.normal(0, 0.2, (networks, 100))
            got = combine_seeds([estimate(row) for row in scores])
            covered += got.low <= 0 <= got.high
        apart = f", {spread} apart" if networks > 1 else ""
        print(f"| seeds: {networks}{apart} | {100 * covered / TRIALS:.1f}% |")


def bootstrap() -> None:
    print("\n| log-normal differences | Student's t | bootstrap, BCa | bootstrap, percentile |")
    print("| :-- | --: | --: | --: |")
    truth = np.exp(0.5) - np.exp(0.32)
    for n in (30, 100, 300):
        rng, hits = np.random.default_rng(0), np.zeros(3)
        for _ in range(TRIALS // 4):
            d = rng.lognormal(0, 1, n) - rng.lognormal(0, 0.8, n)
            ends = [stats.ttest_1samp(d, 0).confidence_interval()]
            ends += [
                stats.bootstrap((d,), np.mean, n_resamples=999, method=method, rng=rng).confidence_interval
                for method in ("BCa", "percentile")
            ]  # fmt: skip
            hits += [low <= truth <= high for low, high in ends]
        shares = " | ".join(f"{400 * hit / TRIALS:.1f}%" for hit in hits)
        print(f"| {n} images | {shares} |")


if __name__ == "__main__":
    comparisons()
    shared_controls()
    unequal_seeds()
    bold()
    means()
    bootstrap()
