"""The scores of single images, which the records are the means of: the rows of samples.parquet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.storage.ledger import Entry

_CELL = ("dataset", "model", "trainer", "threat", "metric", "params")
COLUMNS = (*_CELL, "seed", "refit", "measure", "at", "image", "label", "value")
"""A row per image and measure, and per refit (0, 1, ...) for measures that retrain several times."""


def frames(
    entry: Entry,
    number: int,
    scores: Mapping[str, NDArray[Any]],
    images: Mapping[str, NDArray[Any]],
) -> list[pd.DataFrame]:
    """A frame for each measure of a cell, which is its `number`: the image's identity and label, and the score."""
    return [_frame(entry, number, name, values, images) for name, values in scores.items()]


def joined(each: Sequence[pd.DataFrame], entries: Sequence[Entry]) -> pd.DataFrame:
    """The samples of all cells, what a cell is once for each text and not once for each row."""
    if not each:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.concat(each, ignore_index=True).astype({"measure": "category"})
    cells = rows.pop("cell").to_numpy()
    for name in _CELL:
        rows[name] = pd.Categorical([getattr(entry, name) for entry in entries]).take(cells)
    return rows[list(COLUMNS)]


def _frame(
    entry: Entry, number: int, name: str, values: NDArray[Any], images: Mapping[str, NDArray[Any]]
) -> pd.DataFrame:
    measure, _, at = name.partition("@")
    by_refit = values.reshape(-1, len(images["ids"]))
    refits, count = by_refit.shape
    return pd.DataFrame(
        {
            "cell": number, "seed": entry.seed, "refit": np.repeat(np.arange(refits), count),
            "measure": measure, "at": float(at) if at else math.nan,
            "image": np.tile(images["ids"], refits), "label": np.tile(images["labels"], refits),
            "value": by_refit.ravel(),
        }
    )  # fmt: skip
