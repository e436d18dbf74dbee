"""The tidy row: one measure of one model. Everything that is reported is read from these rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.ledger import Entry, Ledger
from benchmark.statistics import MISSING, Estimate, estimate
from benchmark.store import Store, write_atomically

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Record:
    """One measure of one model, with its interval.

    `model` is the architecture or the specification of a third-party checkpoint, `trainer` the label of the training
    ("pgd_at (Linf 0.1)"; "pretrained" for third-party models). `value` is NaN where a cell failed or does not apply;
    then `note` says why. `at` is the abscissa of a point on a curve (the removed fraction of ROAR), otherwise NaN.
    """

    dataset: str
    model: str
    trainer: str
    train_threat: str
    """Threat of the training ("Linf 0.1"), empty for methods without one."""
    seed: int
    threat: str
    """Threat of the evaluation ("Linf 8/255"), empty for measures without one."""
    metric: str
    family: str
    """The metric's room: robustness, fidelity, manifold, sharpness, ..."""
    label: str
    """The metric with its settings as a column heading ("PGD-20", "ROAR gradient")."""
    params: str
    """Settings that differ from the metric's defaults, as sorted JSON; empty if none."""
    measure: str
    at: float
    value: float
    low: float
    high: float
    stderr: float
    n: int
    direction: str
    """"higher" or "lower" is better; "" where neither is."""
    headline: bool
    """The metric's main measure, shown in the main table."""
    reconstruction: bool
    """The training method is built from an abstract, not from a published formula."""
    key: str
    note: str


COLUMNS = [field.name for field in fields(Record)]


def collect(folder: Path, ledger: Ledger) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All results of a folder: one row per measure (records), and one per image and measure (samples)."""
    store = Store(folder)
    rows: list[Record] = []
    samples: list[pd.DataFrame] = []
    inspected: set[str] = set()
    for entry in ledger.entries:
        if entry.inspection_key not in inspected:
            inspected.add(entry.inspection_key)
            rows += _preflight(store, entry)
        state = ledger.state(store, entry)
        if state == "done":
            scores, info = store.arrays("cells", entry.key)
            rows += _rows(entry, scores, info["reason"])
            samples += _samples(entry, scores, store)
        elif state == "failed":
            rows.append(_missing(entry, ledger.failures[entry.key]))
    records = pd.DataFrame([asdict(row) for row in rows], columns=COLUMNS)
    return records, pd.concat(samples, ignore_index=True) if samples else pd.DataFrame()


def write(folder: Path, records: pd.DataFrame, samples: pd.DataFrame) -> None:
    """records.csv, records.parquet and samples.parquet, each atomically."""
    write_atomically(folder / "records.csv", lambda path: records.to_csv(path, index=False))
    write_atomically(folder / "records.parquet", lambda path: records.to_parquet(path, index=False))
    write_atomically(folder / "samples.parquet", lambda path: samples.to_parquet(path, index=False))


def _rows(entry: Entry, scores: Mapping[str, Floats], reason: str) -> list[Record]:
    """One row per measure and abscissa."""
    if not scores:
        return [_missing(entry, f"does not apply: {reason}")]
    headline = next(iter(entry.directions))
    rows = []
    for name in sorted(scores, key=_order(entry)):
        measure, _, at = name.partition("@")
        rows.append(
            _record(
                entry, measure, estimate(scores[name]),
                at=float(at) if at else math.nan, headline=measure == headline,
            )
        )  # fmt: skip
    return rows


def _order(entry: Entry) -> Callable[[str], tuple[int, float]]:
    """Measures in the order of the card, points of a curve by abscissa."""
    place = {name: i for i, name in enumerate(entry.directions)}

    def rank(name: str) -> tuple[int, float]:
        measure, _, at = name.partition("@")
        return place[measure], float(at or 0)

    return rank


def _missing(entry: Entry, reason: str) -> Record:
    return _record(entry, next(iter(entry.directions)), MISSING, headline=True, note=reason)


def _preflight(store: Store, entry: Entry) -> list[Record]:
    """One row per check: 1 passed, 0 not, with the remedy."""
    if not store.has("inspections", entry.inspection_key):
        return []
    verdict = store.info("inspections", entry.inspection_key)["preflight"]
    own = replace(
        entry, metric="preflight", family="preflight", label="Preflight", params="", threat="",
        directions=dict.fromkeys(verdict, "higher"), key=entry.inspection_key,
    )  # fmt: skip
    passed = {name: float(not remedy) for name, remedy in verdict.items()}
    return [
        _record(own, name, Estimate(value, value, value, 0.0, 1), note=verdict[name])
        for name, value in passed.items()
    ]


def _record(
    entry: Entry, measure: str, e: Estimate, *,
    at: float = math.nan, headline: bool = False, note: str = "",
) -> Record:  # fmt: skip
    return Record(
        dataset=entry.dataset, model=entry.model, trainer=entry.trainer,
        train_threat=entry.train_threat, seed=entry.seed, threat=entry.threat,
        metric=entry.metric, family=entry.family, label=entry.label, params=entry.params,
        measure=measure, at=at, value=e.value, low=e.low, high=e.high, stderr=e.stderr, n=e.n,
        direction=entry.directions[measure], headline=headline,
        reconstruction=entry.reconstruction, key=entry.key, note=note,
    )  # fmt: skip


def _samples(entry: Entry, scores: Mapping[str, Floats], store: Store) -> list[pd.DataFrame]:
    """Per image: its identity, its label, and the score (the mean over refits)."""
    images, _ = store.arrays("images", entry.images)
    facts = {
        name: pd.Categorical([getattr(entry, name)] * len(images["ids"]))
        for name in ("dataset", "model", "trainer", "threat", "metric", "params")
    }
    frames = []
    for name in sorted(scores, key=_order(entry)):
        measure, _, at = name.partition("@")
        frames.append(
            pd.DataFrame(
                {
                    **facts,
                    "seed": entry.seed,
                    "measure": measure,
                    "at": float(at) if at else math.nan,
                    "image": images["ids"],
                    "label": images["labels"],
                    "value": scores[name].reshape(-1, len(images["ids"])).mean(0),
                }
            )
        )
    return frames
