"""Records of several seeds as one estimate: what tables and plots both show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.report.names import one_line
from benchmark.statistics.intervals import ENOUGH_SEEDS, Estimate, average_seeds, combine_seeds

MEASURE = ["family", "metric", "label", "params", "threat", "measure"]
"""What tells one measure from another: the columns of the main table."""

_NUMBERS = ["value", "low", "high", "n", "seeds", "seed_min", "seed_max", "seed_sd"]


def pooled(records: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """One row for each combination of `keys`: value, low, high, n, seeds with a value, their range and standard
    deviation, note."""
    # a cell that was measured again counts once, with its latest row
    latest = records.drop_duplicates([*keys, "seed"], keep="last")
    groups = latest.groupby(list(keys), sort=False, dropna=False).indices
    # a frame for each of thousands of groups would take most of the time
    numbers = latest[["value", "low", "high", "stderr", "n"]].to_numpy(float)
    notes, scopes = latest["note"].tolist(), latest["range"].tolist()
    named = latest[list(keys)].to_numpy(object)
    rows = [
        [*named[own[0]], *_pool(numbers[own], str(scopes[own[0]]), [notes[i] for i in own])]
        for own in sorted(groups.values(), key=lambda own: int(own[0]))
    ]
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


def _pool(numbers: NDArray[np.float64], scope: str, notes: Sequence[str]) -> list[object]:
    """The numbers and the note of one group; a row a seed: value, low, high, stderr, n."""
    estimates = [
        Estimate(value, low, high, stderr, 0 if np.isnan(n) else int(n))
        for value, low, high, stderr, n in numbers.tolist()
    ]
    known = np.isfinite(numbers[:, 0])
    seeds, values = int(known.sum()), numbers[known, 0]
    combine = combine_seeds if seeds >= ENOUGH_SEEDS else average_seeds
    estimate = combine(estimates, limits(scope))
    spread = (values.min(), values.max()) if seeds else (np.nan, np.nan)
    spread += (values.std(ddof=1),) if seeds > 1 else (np.nan,)
    failed = [note for note, ok in zip(notes, known, strict=True) if not ok]
    note = _note(failed, seeds, len(notes))
    return [estimate.value, estimate.low, estimate.high, estimate.n, seeds, *spread, note]


def _note(failed: Sequence[str], seeds: int, asked: int) -> str:
    if not failed:
        return ""
    reason = next((one_line(note) for note in failed if note.strip()), "no value")
    return reason if seeds == 0 else f"{seeds} of {asked} seeds only: {reason}"
