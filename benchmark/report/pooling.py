"""Records of several seeds as one estimate: what tables and plots both show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmark.report.names import one_line
from benchmark.statistics import Estimate, combine_seeds


def pooled(records: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """One row for each combination of `keys`: value, low, high, n, seeds with a value, note."""
    # a cell that was measured again counts once, with its latest row
    latest = records.drop_duplicates([*keys, "seed"], keep="last")
    groups = latest.groupby(list(keys), sort=False, dropna=False)
    rows = [dict(zip(keys, key, strict=True)) | _pool(group) for key, group in groups]
    return pd.DataFrame(rows, columns=[*keys, "value", "low", "high", "n", "seeds", "note"])


def is_accuracy(measure: str, values: pd.Series) -> bool:
    """Whether these values are shares of images, which are shown in percent."""
    finite = values[np.isfinite(values)]
    return "accuracy" in measure and bool(((finite >= 0) & (finite <= 1)).all())


def _pool(group: pd.DataFrame) -> dict[str, object]:
    estimates = [
        Estimate(value, low, high, stderr, 0 if np.isnan(n) else int(n))
        for value, low, high, stderr, n in group[["value", "low", "high", "stderr", "n"]].to_numpy(
            float
        )
    ]
    share = is_accuracy(str(group["measure"].iloc[0]), group["value"])
    estimate = combine_seeds(estimates, (0.0, 1.0) if share else (-np.inf, np.inf))
    seeds = int(np.isfinite(group["value"]).sum())
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "seeds": seeds,
        "note": _note(group, seeds),
    }


def _note(group: pd.DataFrame, seeds: int) -> str:
    failed = group[~np.isfinite(group["value"])]
    if failed.empty:
        return ""
    reason = next((one_line(note) for note in failed["note"] if note.strip()), "no value")
    return reason if seeds == 0 else f"{seeds} of {len(group)} seeds only: {reason}"
