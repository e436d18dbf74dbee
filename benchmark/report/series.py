"""What the plots share: the records of one data set pooled over seeds, under the names of the rows."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmark.report.names import row_names, settings_in_words
from benchmark.report.pooling import pooled


def marked_names(records: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The rows' names, reconstructions with a dagger as in the tables."""
    daggers = records.groupby(["model", "trainer"], sort=False)["reconstruction"].any()
    return {key: name + "†" * bool(daggers[key]) for key, name in row_names(records).items()}


def named(records: pd.DataFrame) -> pd.DataFrame:
    """The records with the row's name as a column, and labels that tell settings apart."""
    names = marked_names(records)
    keys = zip(records["model"], records["trainer"], strict=True)
    return labelled(records).assign(row=[names[key] for key in keys])


def labelled(records: pd.DataFrame) -> pd.DataFrame:
    """The records; where settings of a metric share a label, it says what each of them sets."""
    kinds = ["label", "metric", "params"]
    several = records[kinds].drop_duplicates().value_counts(["label", "metric"])
    shared = set(several[several > 1].index)
    return records.assign(
        label=[
            f"{label} {settings_in_words(params)}".strip() if (label, metric) in shared else label
            for label, metric, params in records[kinds].itertuples(index=False)
        ]
    )


def points(records: pd.DataFrame, keys: Sequence[str] = ()) -> pd.DataFrame:
    """Pooled values of `named` records, one for each row and `keys`, those without a value left out."""
    pool = pooled(records, ["row", *keys])
    return pool[np.isfinite(pool["value"])]


def clean(records: pd.DataFrame) -> pd.DataFrame:
    """The records of clean accuracy."""
    return _headline(records[records["metric"] == "clean_accuracy"])


def attacked(records: pd.DataFrame) -> pd.DataFrame:
    """The accuracies under attack; a certified accuracy is none: it is a bound, and of another classifier."""
    found = _headline(records[records["family"] == "robustness"])
    return found[found["measure"] == "robust_accuracy"]


def _headline(records: pd.DataFrame) -> pd.DataFrame:
    return records[records["headline"].astype(bool) & records["at"].isna()]


def threat(text: str) -> tuple[str, float] | None:
    """ "Linf 8/255" -> ("Linf", 0.0314); None for what is no threat."""
    match = re.fullmatch(r"(\S+) ([\d.eE+-]+)(?:/([\d.]+))?", text.strip())
    if not match:
        return None
    try:
        return match[1], float(match[2]) / float(match[3] or 1)
    except (ValueError, ZeroDivisionError):
        return None
