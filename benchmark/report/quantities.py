"""What the trade-off is between: the measures that stand for accuracy, robustness and interpretability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.report.names import norm_sign
from benchmark.report.series import clean

_MEASURES = ("roar", "tangent", "gini")
"""What stands for interpretability, the first that the run holds: beginnings of a metric's name."""


@dataclass(frozen=True)
class Quantity:
    """What an axis of the trade-off shows: its records, its name, and which way is better."""

    records: pd.DataFrame
    title: str
    sign: float


def interpretability(records: pd.DataFrame) -> Quantity | None:
    """The first of ROAR score, tangent fraction and Gini index that the run holds."""
    headline = records[records["headline"].astype(bool) & records["at"].isna()]
    for beginning in _MEASURES:
        found = headline[
            headline["metric"].str.startswith(beginning) & np.isfinite(headline["value"])
        ]
        if len(found):
            first = found.iloc[0]
            chosen = headline[
                (headline["metric"] == first["metric"])
                & (headline["label"] == first["label"])
                & (headline["threat"] == first["threat"])
                & (headline["measure"] == first["measure"])
            ]
            lower = first["direction"] == "lower"
            better = {"higher": " (higher is better)", "lower": " (lower is better)"}
            title = first["label"]
            # "ROAR gradient" says it; "Tangent gradient" is short of "fraction"
            if first["measure"] != "score" and first["measure"] not in title.lower():
                title += f" {first['measure']}"
            return Quantity(
                chosen, title + better.get(first["direction"], ""), -1.0 if lower else 1.0
            )
    return None


def clean_accuracy(records: pd.DataFrame) -> Quantity | None:
    """Clean accuracy."""
    found = clean(records)
    return Quantity(found, "clean accuracy", 1.0) if np.isfinite(found["value"]).any() else None


def robust_accuracy(records: pd.DataFrame) -> Quantity | None:
    """The strongest evaluation: AutoAttack where there is one, otherwise what leaves the least accuracy."""
    robust = records[
        (records["measure"] == "robust_accuracy")
        & (records["threat"] != "")
        & np.isfinite(records["value"])
    ]
    if robust.empty:
        return None
    strongest = robust[robust["metric"] == "auto_attack"]
    pool = strongest if len(strongest) else robust
    # of several threats, the one that the table names first
    pool = pool[pool["threat"] == pool["threat"].iloc[0]]
    label = pool.groupby("label", sort=False)["value"].mean().idxmin()
    chosen = pool[pool["label"] == label]
    return Quantity(
        chosen, f"robust accuracy ({label}, {norm_sign(chosen['threat'].iloc[0])})", 1.0
    )
