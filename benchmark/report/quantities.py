"""What scatter plots are between: the measures that stand for accuracy, robustness, interpretability and cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.report.controls import control
from benchmark.report.names import norm_sign
from benchmark.report.pooling import MEASURE, limits
from benchmark.report.series import attacked, clean

_FAMILIES = ("fidelity", "manifold", "sharpness")
"""The families that speak of interpretability, the first that the run holds."""


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


def interpretability(records: pd.DataFrame) -> Quantity | None:
    """The first headline measure of the first family of interpretability that the run holds, controls left out."""
    headline = records[records["headline"].astype(bool) & records["at"].isna()]
    usable = headline[np.isfinite(headline["value"]) & (headline["direction"] != "")]
    given = zip(usable["metric"], usable["params"], strict=True)
    usable = usable.loc[[not control(metric, params) for metric, params in given]]
    for family in _FAMILIES:
        found = usable[usable["family"] == family]
        if len(found):
            return _quantity(headline, found.iloc[0])
    return None


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


def _quantity(headline: pd.DataFrame, first: pd.Series) -> Quantity:
    """All records of the measure that `first` is one of."""
    chosen = headline[(headline[MEASURE] == first[MEASURE]).all(axis=1)]
    title, lower = first["label"], first["direction"] == "lower"
    # "ROAR gradient" says it; "Tangent gradient" is short of "fraction"
    if first["measure"] != "score" and first["measure"] not in title.lower():
        title += f" {first['measure']}"
    title += f" ({first['direction']} is better)"
    return Quantity(chosen, title, -1.0 if lower else 1.0, limits(first["range"]))
