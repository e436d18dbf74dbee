"""Records of several seeds as one estimate: what tables and plots both show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmark.report.names import one_line
from benchmark.statistics import Estimate, average_seeds, combine_seeds

MEASURE = ["family", "metric", "label", "params", "threat", "measure"]
"""What tells one measure from another: the columns of the main table."""

ENOUGH_SEEDS = 3
"""Seeds from which their spread is part of the interval; with two, Student's t makes it 13 standard errors wide."""

_NUMBERS = ["value", "low", "high", "n", "seeds", "seed_min", "seed_max"]


def pooled(records: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """One row for each combination of `keys`: value, low, high, n, seeds with a value and their range, note."""
    # a cell that was measured again counts once, with its latest row
    latest = records.drop_duplicates([*keys, "seed"], keep="last")
    groups = latest.groupby(list(keys), sort=False, dropna=False)
    rows = [dict(zip(keys, key, strict=True)) | _pool(group) for key, group in groups]
    return pd.DataFrame(rows, columns=[*keys, *_NUMBERS, "note"]).astype(
        dict.fromkeys(_NUMBERS, float)
    )


def held(seeds: pd.Series) -> str:
    """What the intervals of values over so many seeds hold."""
    few = seeds < ENOUGH_SEEDS
    if few.all():
        return "over images"
    return f"over images and seeds{f' (from {ENOUGH_SEEDS} seeds on)' * bool(few.any())}"


def limits(scope: str) -> tuple[float, float]:
    """The ends of a measure's range: "0..1" is (0, 1); what is no number, as in "0..eps", limits nothing."""
    low, _, high = scope.partition("..")
    return _number(low, -np.inf), _number(high, np.inf)


def in_percent(family: str, scope: str) -> bool:
    """Whether a measure is a share of images, which is shown in percent: an accuracy under whatever name."""
    return family == "robustness" and limits(scope) == (0.0, 1.0)


def _number(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise


def _pool(group: pd.DataFrame) -> dict[str, object]:
    estimates = [
        Estimate(value, low, high, stderr, 0 if np.isnan(n) else int(n))
        for value, low, high, stderr, n in group[["value", "low", "high", "stderr", "n"]].to_numpy(
            float
        )
    ]
    seeds = int(np.isfinite(group["value"]).sum())
    combine = combine_seeds if seeds >= ENOUGH_SEEDS else average_seeds
    estimate = combine(estimates, limits(str(group["range"].iloc[0])))
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "seeds": seeds,
        "seed_min": group["value"].min(),
        "seed_max": group["value"].max(),
        "note": _note(group, seeds),
    }


def _note(group: pd.DataFrame, seeds: int) -> str:
    failed = group[~np.isfinite(group["value"])]
    if failed.empty:
        return ""
    reason = next((one_line(note) for note in failed["note"] if note.strip()), "no value")
    return reason if seeds == 0 else f"{seeds} of {len(group)} seeds only: {reason}"
