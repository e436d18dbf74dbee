"""A result as tidy rows: one measure of one model. Everything that is reported is read from these rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import IntegrityError
from benchmark.statistics.intervals import MISSING, Estimate, estimate
from benchmark.storage.ledger import Entry, Identity
from benchmark.store import Store

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Record:
    """One measure of one model, with its interval.

    `model` is the architecture or the specification of a third-party checkpoint, `trainer` the label of the training
    ("pgd_at (Linf 0.1)"; "pretrained" for third-party models). `value` is NaN where a cell failed, does not apply or
    is still to come; then `note` says so. `at` is the abscissa of a point on a curve (the removed fraction of ROAR),
    otherwise NaN.
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
WAITING = "not computed yet"
"""The note of a cell that was asked for and is still to come."""
NO_CELL = ("preflight", "cost")
"""Rows of an inspection or of a training, under the metric's name."""


def of_cell(entry: Entry, scores: Mapping[str, Floats], reason: str) -> list[Record]:
    """One row per measure and abscissa."""
    if not scores:
        return [missing(entry, f"does not apply: {reason}")]
    headline = next(iter(entry.directions))
    rows = []
    for name in sorted(scores, key=order(entry)):
        measure, _, at = name.partition("@")
        rows.append(
            _record(
                entry, measure, estimate(scores[name], unit=entry.ranges[measure] == "0..1"),
                at=float(at) if at else math.nan, headline=measure == headline,
            )
        )  # fmt: skip
    return rows


def order(entry: Entry) -> Callable[[str], tuple[int, float]]:
    """Measures in the order of the card, points of a curve by abscissa."""
    place = {name: i for i, name in enumerate(entry.directions)}

    def rank(name: str) -> tuple[int, float]:
        measure, _, at = name.partition("@")
        return place[measure], float(at or 0)

    return rank


def missing(entry: Entry, reason: str) -> Record:
    """The row of a cell without a result."""
    return _record(entry, next(iter(entry.directions)), MISSING, headline=True, note=reason)


def completed(rows: Sequence[Record]) -> list[Record]:
    """The rows, and for a cell without a result one of every measure that its metric has for other models.

    Which measures there are, the settings decide (controls), so that the card alone does not tell.
    """
    known: dict[Identity, dict[str, Record]] = {}
    for row in rows:
        if math.isnan(row.at) and not math.isnan(row.value):
            known.setdefault(_column(row), {}).setdefault(row.measure, row)
    found = []
    for row in rows:
        found.append(row)
        if row.note and math.isnan(row.value):
            found += [
                replace(
                    row, measure=name, direction=other.direction, range=other.range, headline=False
                )
                for name, other in known.get(_column(row), {}).items()
                if name != row.measure
            ]
    return found


def _column(row: Record) -> Identity:
    return row.dataset, row.metric, row.params, row.threat


def of_inspection(store: Store, entry: Entry, failure: str) -> list[Record]:
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


def of_training(store: Store, entry: Entry) -> list[Record]:
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
