"""The tables of a run's folder: rows of all its results, what each image scored, which attack broke it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pandas as pd
from filelock import FileLock

from benchmark.cards import ROOT
from benchmark.errors import IntegrityError
from benchmark.keys import code_version, key
from benchmark.storage import ledger, samples, verdicts
from benchmark.storage.atomic import write_atomically, write_json
from benchmark.storage.ledger import Ledger
from benchmark.storage.rows import (
    COLUMNS,
    NO_CELL,
    WAITING,
    Record,
    completed,
    missing,
    of_cell,
    of_inspection,
    of_training,
    order,
)
from benchmark.storage.trainings import epochs, trainings
from benchmark.storage.verdicts import CLEAN, Attack
from benchmark.store import Store

_FILES = (
    *("records.csv", "records.parquet", "samples.parquet", "verdicts.parquet"),
    *("gallery/index.json", "gallery/thumbnails.json", "trainings.csv", "epochs.csv"),
)
_MARK = "store/records.digest"


def refresh(folder: Path) -> bool:
    """Write the records, the samples and the gallery's index unless they are what the folder's cells say already.

    Returns whether they were written. A folder that came without its plan or without its store is read as it is: what
    its records hold is not forgotten because the cells are elsewhere.
    """
    if _settled(folder):
        return False
    with _alone(folder):  # a run and a report of it, say: what the later one finds is what stays
        if _settled(folder):
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


def _settled(folder: Path) -> bool:
    book, store = ledger.read(folder), Store(folder)
    if book is None or _bereft(folder, book, store):
        return True
    mark = folder / _MARK
    written = mark.read_text(encoding="utf-8") if mark.is_file() else ""
    return written == _mark(_state(book, store), folder)


def _bereft(folder: Path, book: Ledger, store: Store) -> bool:
    """Whether the records hold results and the store none of them: a copy, or a shared store that is not mounted."""
    path = folder / _FILES[0]
    if not path.is_file() or any(store.has("cells", line.key) for line in book.entries):
        return False
    rows = pd.read_csv(path, usecols=["metric", "key", "value"]).dropna(subset="value")
    keys = rows["key"][~rows["metric"].isin(NO_CELL)].unique()
    return len(keys) > 0 and not any(store.has("cells", key) for key in keys)


def _state(book: Ledger, store: Store) -> str:
    """What the records are made from, and by which code."""
    files = (f for room in ("statistics", "storage") for f in (ROOT / "benchmark" / room).iterdir())
    code = [code_version(file) for file in sorted(files) if file.suffix == ".py"]
    return key(ledger.digest(book, store), code)


def _mark(state: str, folder: Path) -> str:
    """What was written from what: the state of the cells and the digests of the files."""
    paths = (folder / name for name in _FILES)
    return key(state, [_digest(path) if path.is_file() else "" for path in paths])


def _digest(path: Path) -> str:
    """sha256 of a file, a piece at a time: the samples of a large run do not fit into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def _write(folder: Path) -> None:
    book, store = ledger.read(folder), Store(folder)
    assert book is not None, "a folder without a plan is settled"
    # before the results are read: what comes meanwhile makes the records stale
    state = _state(book, store)
    paths = [folder / name for name in _FILES]
    made: list[pd.DataFrame] = []
    write_atomically(paths[2], lambda path: made.extend(collect(folder, book, path)))
    records, each = made
    write_atomically(paths[0], lambda path: records.to_csv(path, index=False))
    write_atomically(paths[1], lambda path: records.to_parquet(path, index=False))
    write_atomically(paths[3], lambda path: each.to_parquet(path, index=False))
    write_json(paths[4], _gallery(folder, book))
    write_json(paths[5], _thumbnails(folder, book))
    spent, logs = trainings(store, book), epochs(store, book)
    write_atomically(paths[6], lambda path: spent.to_csv(path, index=False))
    write_atomically(paths[7], lambda path: logs.to_csv(path, index=False))
    # last: a run killed before this point writes them again
    written = _mark(state, folder)
    write_atomically(folder / _MARK, lambda path: path.write_text(written, encoding="utf-8"))


def collect(folder: Path, book: Ledger, path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All results of a folder: a row per measure (records), and per image (verdicts).

    The rows per image and measure (samples) are written to `path` cell by cell.
    """
    store = Store(folder)
    pictures = cache(lambda key: store.arrays("images", key)[0])
    attacks: list[Attack] = []
    rows: list[Record] = []
    inspected: set[tuple[object, ...]] = set()
    with samples.sheet(path, book.entries) as sheet:
        for entry in book.entries:
            # models that hold the same weights under two names have one inspection, and each its rows
            look = (entry.inspection_key, entry.training)
            if look not in inspected:
                inspected.add(look)
                rows += of_inspection(store, entry, book.failures.get(entry.inspection_key, ""))
                rows += of_training(store, entry)
            state = book.state(store, entry)
            if state == "done":
                try:
                    found, info = store.arrays("cells", entry.key)
                    images = pictures(entry.images)
                except IntegrityError as error:
                    rows.append(missing(entry, str(error)))
                    continue
                kept = {name: found[name] for name in verdicts.NEEDED & set(found)}
                attacks.append(Attack(entry, kept, images))
                names = sorted(set(found) - {CLEAN}, key=order(entry))
                scores = {name: found[name] for name in names}
                sheet.add(entry, scores, images)
                rows += of_cell(entry, scores, info["reason"])
            else:
                failed = state == "failed"
                rows.append(missing(entry, book.failures[entry.key] if failed else WAITING))
    records = pd.DataFrame([asdict(row) for row in completed(rows)], columns=COLUMNS)
    return records, verdicts.table(attacks)


def _gallery(folder: Path, book: Ledger) -> list[dict[str, object]]:
    """Which file holds the saliency maps of which model."""
    store, index = Store(folder), {}
    for entry in book.entries:
        if store.has("inspections", entry.inspection_key):
            path = store.file("inspections", entry.inspection_key).relative_to(folder)
            facts = {name: getattr(entry, name) for name in ("dataset", "model", "trainer", "seed")}
            index[entry.inspection_key, entry.training] = {**facts, "file": f"../{path.as_posix()}"}
    return list(index.values())


def _thumbnails(folder: Path, book: Ledger) -> dict[str, str]:
    """Data set -> the file with its test images' numbers, labels and first thumbnails."""
    store = Store(folder)
    return {
        entry.dataset: f"../{store.file('images', entry.images).relative_to(folder).as_posix()}"
        for entry in book.entries
    }
