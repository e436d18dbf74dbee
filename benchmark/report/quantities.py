"""What scatter plots are between: the measures that stand for accuracy, robustness, interpretability and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmark.report.interpretability import FAMILIES, Standing, standing
from benchmark.report.names import arrow, norm_sign
from benchmark.report.pooling import limits
from benchmark.report.read import Run
from benchmark.report.series import attacked, clean, named
from benchmark.report.tables.cells import Column
from benchmark.report.tables.table import table

_TOLD = 3
"""Measures that were passed over up to which a plot names them."""


@dataclass(frozen=True)
class Quantity:
    """What an axis shows: its records, its name, which way is better, its range, and how its ticks read."""

    records: pd.DataFrame
    title: str
    sign: float
    bounds: tuple[float, float]
    percent: bool = False
    ratio: bool = False
    """A multiple of something, which takes a logarithmic axis."""
    unbeaten: frozenset[str] = frozenset()
    """The rows that do not beat their controls."""
    controls: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Control -> the least and the most that it scored."""
    notes: tuple[str, ...] = ()
    """How the measure was chosen, where that is to be told."""


def interpretability(run: Run) -> Quantity | None:
    """The measure of one data set's run that benchmark/report/interpretability.py chooses."""
    if run.records.empty:
        return None
    shown = table(run, "all", [f"{family}/*" for family in FAMILIES])
    found = standing(shown)
    return None if found is None else _quantity(run.records, shown.columns[found.place], found)


def clean_accuracy(records: pd.DataFrame) -> Quantity | None:
    """Clean accuracy."""
    found = clean(records)
    if not np.isfinite(found["value"]).any():
        return None
    return Quantity(found, "clean accuracy", 1.0, limits(found["range"].iloc[0]), percent=True)


def robust_accuracy(records: pd.DataFrame) -> Quantity | None:
    """The strongest evaluation: what leaves the least accuracy under the threat that most attacks share."""
    robust = attacked(records)
    robust = robust[np.isfinite(robust["value"])]
    if robust.empty:
        return None
    # a tie goes to the threat that the table names first
    threat = robust.groupby("threat", sort=False)["label"].nunique().idxmax()
    shared = robust[robust["threat"] == threat]
    # an attack that failed on some models does not stand for the run
    covered = shared.groupby("label", sort=False)["row"].transform("nunique")
    complete = shared[covered == covered.max()]
    label = complete.groupby("label", sort=False)["value"].mean().idxmin()
    chosen = complete[complete["label"] == label]
    title = f"robust accuracy ({label}, {norm_sign(str(threat))})"
    return Quantity(chosen, title, 1.0, limits(chosen["range"].iloc[0]), percent=True)


def training_work(records: pd.DataFrame) -> Quantity | None:
    """Operations of a training step relative to standard training's; third-party models have none."""
    found = records[(records["metric"] == "cost") & records["headline"].astype(bool)]
    found = found[np.isfinite(found["value"]) & (found["value"] > 0)]
    if found.empty:
        return None
    return Quantity(
        found, "operations of a training step, standard = 1", -1.0, (0.0, np.inf), ratio=True
    )


def _quantity(records: pd.DataFrame, column: Column, found: Standing) -> Quantity:
    """The records of a column, and what its controls say of it."""
    facts = ("family", "metric", "params", "threat", "measure")
    same = (records[list(facts)] == [getattr(column, name) for name in facts]).all(axis=1)
    own = named(records)[same & records["at"].isna()]
    title = str(own["label"].iloc[0])
    # "ROAR gradient" says it; "Tangent gradient" is short of "fraction"
    if column.measure != "score" and column.measure not in title.lower():
        title += f" {column.measure}"
    return Quantity(
        own,
        f"{title} ({arrow(column.direction)} better)",
        -1.0 if column.direction == "lower" else 1.0,
        limits(column.scope),
        unbeaten=found.unbeaten,
        controls=found.controls,
        notes=_notes(title, found),
    )


def _notes(title: str, found: Standing) -> tuple[str, ...]:
    """What was passed over, and whether anything judges the measure."""
    said = []
    if found.passed:
        rest = len(found.passed) - _TOLD
        names = ", ".join(found.passed[:_TOLD]) + f" and {rest} more" * (rest > 0)
        said.append(f"passed over, as most models do not beat their controls: {names}")
    if not found.controls:
        said.append(f"measured beside no control: {title}")
    return tuple(said)
