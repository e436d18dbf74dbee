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
from filelock import FileLock
from numpy.typing import NDArray

from benchmark.cards import ROOT
from benchmark.errors import IntegrityError
from benchmark.keys import code_version, key
from benchmark.statistics.intervals import MISSING, Estimate, estimate
from benchmark.storage import ledger, samples, verdicts
from benchmark.storage.ledger import Entry, Ledger
from benchmark.storage.trainings import epochs, trainings
from benchmark.storage.verdicts import CLEAN, Attack
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
LEVELS = {"PASS": 1.0, "WARN": 0.5, "FAIL": 0.0}
"""The value of a preflight check's row."""
_FILES = (
    *("records.csv", "records.parquet", "samples.parquet", "verdicts.parquet"),
    *("gallery/index.json", "gallery/thumbnails.json", "trainings.csv", "epochs.csv"),
)
_MARK = "store/records.digest"


def refresh(folder: Path) -> bool:
    """Write the records, the samples and the gallery's index unless they are what the folder's cells say already.

    Returns whether they were written. StoreError if the folder holds no run.
    """
    if _fresh(folder):
        return False
    with _alone(folder):  # a run and a report of it, say: what the later one finds is what stays
        if _fresh(folder):
            return False
        _write(folder)
        return True


def outdate(folder: Path) -> None:
    """Have the records written again, as a result was computed again."""
    with _alone(folder):
        (folder / _MARK).unlink(missing_ok=True)


def _alone(folder: Path) -> FileLock:
    """The right to write the records; that to compute results is another one."""
    (folder / "store").mkdir(exist_ok=True)
    return FileLock(folder / "store" / "records.lock")


def _read(folder: Path) -> Ledger:
    book = ledger.read(folder)
    if book is None:
        raise StoreError(f"{folder} is not a run's folder: it has no plan.json")
    return book


def _fresh(folder: Path) -> bool:
    mark, state = folder / _MARK, _state(_read(folder), Store(folder))
    return mark.is_file() and mark.read_text(encoding="utf-8") == _mark(state, folder)


def _state(book: Ledger, store: Store) -> str:
    """What the records are made from, and by which code."""
    files = (f for room in ("statistics", "storage") for f in (ROOT / "benchmark" / room).iterdir())
    code = [code_version(file) for file in sorted(files) if file.suffix == ".py"]
    return key(ledger.digest(book, store), code)


def _mark(state: str, folder: Path) -> str:
    """What was written from what: the state of the cells and the digests of the files."""
    paths = (folder / name for name in _FILES)
    found = [hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in paths]
    return key(state, found)


def _write(folder: Path) -> None:
    book, store = _read(folder), Store(folder)
    # before the results are read: what comes meanwhile makes the records stale
    state = _state(book, store)
    paths = [folder / name for name in _FILES]
    records, scores, each = collect(folder, book)
    write_atomically(paths[0], lambda path: records.to_csv(path, index=False))
    write_atomically(paths[1], lambda path: records.to_parquet(path, index=False))
    write_atomically(paths[2], lambda path: scores.to_parquet(path, index=False))
    write_atomically(paths[3], lambda path: each.to_parquet(path, index=False))
    write_json(paths[4], _gallery(folder, book))
    write_json(paths[5], _thumbnails(folder, book))
    spent, logs = trainings(store, book), epochs(store, book)
    write_atomically(paths[6], lambda path: spent.to_csv(path, index=False))
    write_atomically(paths[7], lambda path: logs.to_csv(path, index=False))
    # last: a run killed before this point writes them again
    written = _mark(state, folder)
    write_atomically(folder / _MARK, lambda path: path.write_text(written, encoding="utf-8"))


def collect(folder: Path, book: Ledger) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All results of a folder: a row per measure (records), per image and measure (samples), per image (verdicts)."""
    store = Store(folder)
    attacks: list[Attack] = []
    rows: list[Record] = []
    frames: list[pd.DataFrame] = []
    inspected: set[str] = set()
    for number, entry in enumerate(book.entries):
        if entry.inspection_key not in inspected:
            inspected.add(entry.inspection_key)
            rows += _preflight(store, entry, book.failures.get(entry.inspection_key, ""))
            rows += _cost(store, entry)
        state = book.state(store, entry)
        if state == "done":
            try:
                found, info = store.arrays("cells", entry.key)
                images, _ = store.arrays("images", entry.images)
                attacks.append(Attack(entry, found, images))
                names = sorted(set(found) - {CLEAN}, key=_order(entry))
                scores = {name: found[name] for name in names}
                frames += samples.frames(entry, number, scores, images)
                rows += _rows(entry, scores, info["reason"])
            except IntegrityError as error:
                rows.append(_missing(entry, str(error)))
        elif state == "failed":
            rows.append(_missing(entry, book.failures[entry.key]))
    records = pd.DataFrame([asdict(row) for row in rows], columns=COLUMNS)
    return records, samples.joined(frames, book.entries), verdicts.table(attacks)


def _gallery(folder: Path, book: Ledger) -> list[dict[str, object]]:
    """Which file holds the saliency maps of which model."""
    store, index = Store(folder), {}
    for entry in book.entries:
        if store.has("inspections", entry.inspection_key):
            path = store.file("inspections", entry.inspection_key).relative_to(folder)
            facts = {name: getattr(entry, name) for name in ("dataset", "model", "trainer", "seed")}
            index[entry.inspection_key] = {**facts, "file": f"../{path.as_posix()}"}
    return list(index.values())


def _thumbnails(folder: Path, book: Ledger) -> dict[str, str]:
    """Data set -> the file with its test images' numbers, labels and first thumbnails."""
    store = Store(folder)
    return {
        entry.dataset: f"../{store.file('images', entry.images).relative_to(folder).as_posix()}"
        for entry in book.entries
    }


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
    """One row per check: what `LEVELS` says, and unless it passed its code and the remedy."""
    verdict = _findings(store, entry.inspection_key, failure)
    own = replace(
        entry, metric="preflight", family="preflight", label="Preflight", params="", threat="",
        directions=dict.fromkeys(verdict, "higher"), ranges=dict.fromkeys(verdict, "0..1"),
        key=entry.inspection_key,
    )  # fmt: skip
    return [
        _record(
            own, name, Estimate(LEVELS[level], LEVELS[level], LEVELS[level], 0.0, 1),
            note="" if level == "PASS" else ": ".join(filter(None, (code, remedy))),
        )
        for name, (level, code, remedy) in verdict.items()
    ]  # fmt: skip


def _findings(store: Store, key: str, failure: str) -> dict[str, list[str]]:
    """Check -> level, code and remedy; or why there was no inspection."""
    if not store.has("inspections", key):
        return {"inspection": ["FAIL", "", failure]} if failure else {}
    try:
        found: dict[str, list[str]] = store.info("inspections", key)["preflight"]
    except IntegrityError as error:
        return {"inspection": ["FAIL", "", str(error)]}
    if any(isinstance(finding, str) for finding in found.values()):
        return {"inspection": ["WARN", "", "made by an earlier version; give the command again"]}
    return found


def _cost(store: Store, entry: Entry) -> list[Record]:
    """What a batch of a training cost, counted and not timed: the same on every machine."""
    if not (entry.fit and store.has("models", entry.model_key)):
        return []
    try:
        cost = store.info("models", entry.model_key)["cost"]
    except IntegrityError:
        return []  # the cells say so
    own = replace(
        entry, metric="cost", family="cost", label="Training", params="", threat="",
        directions=dict.fromkeys(cost, "lower"), ranges=dict.fromkeys(cost, "0.."),
        key=entry.model_key,
    )  # fmt: skip
    exact = (
        (name, Estimate(value, math.nan, math.nan, math.nan, 0)) for name, value in cost.items()
    )
    return [_record(own, name, value, headline=name == "work") for name, value in exact]


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
