"""The tidy row: one measure of one model. Everything that is reported is read from these rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark import ledger
from benchmark.errors import IntegrityError
from benchmark.keys import key
from benchmark.ledger import Entry, Ledger
from benchmark.statistics import MISSING, Estimate, estimate
from benchmark.store import Store, StoreError, write_atomically, write_json

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
    range: str
    """The measure's range as its card says: "0..1", "unbounded", ..."""
    headline: bool
    """The metric's main measure, shown in the main table."""
    reconstruction: bool
    """The training method is built from an abstract, not from a published formula."""
    key: str
    note: str


COLUMNS = [field.name for field in fields(Record)]


def refresh(folder: Path) -> bool:
    """Write the records, the samples and the gallery's index unless they are what the folder's cells say already.

    Returns whether they were written. StoreError if the folder holds no run.
    """
    book, store = ledger.read(folder), Store(folder)
    if book is None:
        raise StoreError(f"{folder} is not a run's folder: it has no plan.json")
    names = ("records.csv", "records.parquet", "samples.parquet", "gallery/index.json")
    paths = [folder / name for name in names]
    mark = folder / "store" / "records.digest"
    state = key(ledger.digest(book, store), COLUMNS)
    if mark.is_file() and mark.read_text(encoding="utf-8") == _mark(state, paths):
        return False
    records, samples = collect(folder, book)
    write_atomically(paths[0], lambda path: records.to_csv(path, index=False))
    write_atomically(paths[1], lambda path: records.to_parquet(path, index=False))
    write_atomically(paths[2], lambda path: samples.to_parquet(path, index=False))
    write_json(paths[3], _gallery(folder, book))
    # last: a run killed before this point writes them again
    written = _mark(state, paths)
    write_atomically(mark, lambda path: path.write_text(written, encoding="utf-8"))
    return True


def _mark(state: str, paths: list[Path]) -> str:
    """What was written from what: the state of the cells and the digests of the files."""
    found = [hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in paths]
    return key(state, found)


def collect(folder: Path, book: Ledger) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All results of a folder: one row per measure (records), and one per image and measure (samples)."""
    store = Store(folder)
    rows: list[Record] = []
    samples: list[pd.DataFrame] = []
    inspected: set[str] = set()
    for entry in book.entries:
        if entry.inspection_key not in inspected:
            inspected.add(entry.inspection_key)
            rows += _preflight(store, entry, book.failures.get(entry.inspection_key, ""))
        state = book.state(store, entry)
        if state == "done":
            try:
                scores, info = store.arrays("cells", entry.key)
                samples += _samples(entry, scores, store)
                rows += _rows(entry, scores, info["reason"])
            except IntegrityError as error:
                rows.append(_missing(entry, str(error)))
        elif state == "failed":
            rows.append(_missing(entry, book.failures[entry.key]))
    records = pd.DataFrame([asdict(row) for row in rows], columns=COLUMNS)
    return records, pd.concat(samples, ignore_index=True) if samples else pd.DataFrame()


def _gallery(folder: Path, book: Ledger) -> list[dict[str, object]]:
    """Which file holds the saliency maps of which model."""
    store, index = Store(folder), {}
    for entry in book.entries:
        if store.has("inspections", entry.inspection_key):
            path = store.path("inspections", entry.inspection_key).relative_to(folder)
            facts = {name: getattr(entry, name) for name in ("dataset", "model", "trainer", "seed")}
            index[entry.inspection_key] = {**facts, "file": f"../{path.as_posix()}"}
    return list(index.values())


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


def _preflight(store: Store, entry: Entry, failure: str) -> list[Record]:
    """One row per check: 1 passed, 0 not, with the remedy."""
    if store.has("inspections", entry.inspection_key):
        try:
            verdict = store.info("inspections", entry.inspection_key)["preflight"]
        except IntegrityError as error:
            verdict = {"inspection": str(error)}
    elif failure:
        verdict = {"inspection": failure}
    else:
        return []
    own = replace(
        entry, metric="preflight", family="preflight", label="Preflight", params="", threat="",
        directions=dict.fromkeys(verdict, "higher"), ranges=dict.fromkeys(verdict, "0..1"),
        key=entry.inspection_key,
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
        direction=entry.directions[measure], range=entry.ranges[measure], headline=headline,
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
