"""The verdict on every image: does the model hold, and which attack broke it first?

`bench run` writes it as `verdicts.parquet`, one row per model, threat and test image:

    pandas.read_parquet("results/quick/verdicts.parquet").query("clean_correct and broken_by == ''")

Columns: `dataset`, `model`, `trainer`, `seed`, `threat`, `image` (its number in the data set), `label`,
`clean_correct` (the unchanged image is classified as labelled), `broken_by` (the first attack, in the order of the
suite, that made it misclassified; empty where none did or it was misclassified before), and of one adversarial example
`norm` (of the perturbation, in the threat's norm) and `margin` (max_{k != y} z_k - z_y): the example that broke the
image, otherwise the one with the largest margin. What every single attack did stands in `samples.parquet`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.storage.ledger import Entry

CLEAN = "verdict/clean"
"""Stands among the scores of an attack's cell, and is no measure."""
NEEDED = frozenset((CLEAN, "robust_accuracy", "perturbation", "margin"))
"""The scores of an attack that its verdict is made from."""
_MODEL = ("dataset", "model", "trainer", "seed", "threat")
COLUMNS = (*_MODEL, "image", "label", "clean_correct", "broken_by", "norm", "margin")


@dataclass(frozen=True)
class Attack:
    """The scores of a cell, one per image, and its images."""

    entry: Entry
    scores: Mapping[str, NDArray[Any]]
    images: Mapping[str, NDArray[Any]]

    @property
    def judged(self) -> bool:
        """Whether the metric is an attack: what it gives back is the harness's verdict."""
        return set(self.scores) >= NEEDED


def table(attacks: Sequence[Attack]) -> pd.DataFrame:
    """The rows of all models and threats; `attacks` in the order of the suite."""
    groups: dict[tuple[object, ...], list[Attack]] = {}
    for attack in attacks:
        if attack.judged:
            key = tuple(getattr(attack.entry, name) for name in _MODEL)
            groups.setdefault(key, []).append(attack)
    frames = [_rows(group) for group in groups.values()]
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.concat(frames, ignore_index=True)
    texts = ("dataset", "model", "trainer", "threat", "broken_by")
    return rows.astype(dict.fromkeys(texts, "category"))


def _rows(group: Sequence[Attack]) -> pd.DataFrame:
    """One model under one threat."""
    first = group[0]
    clean, broken, norm, margin = (
        np.stack([attack.scores[name] for attack in group])
        for name in (CLEAN, "robust_accuracy", "perturbation", "margin")
    )
    broken = clean.astype(bool) & (broken == 0)
    some = broken.any(0)
    shown = np.where(some, broken.argmax(0), np.nan_to_num(margin, nan=-np.inf).argmax(0))
    each = np.arange(len(some))
    return pd.DataFrame(
        {
            **{name: getattr(first.entry, name) for name in _MODEL},
            "image": first.images["ids"],
            "label": first.images["labels"],
            "clean_correct": clean[0].astype(bool),
            "broken_by": np.where(some, np.array(_names(group), object)[shown], ""),
            "norm": norm[shown, each],
            "margin": margin[shown, each],
        }
    )


def _names(group: Sequence[Attack]) -> list[str]:
    """The attacks as the tables call them, with their settings where two have one name."""
    count = Counter(attack.entry.label for attack in group)
    return [
        attack.entry.label
        if count[attack.entry.label] == 1
        else f"{attack.entry.label} {attack.entry.params}".strip()
        for attack in group
    ]
