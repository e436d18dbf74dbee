"""Curves of several trainings in one panel, with intervals that stay readable however many there are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from benchmark.report.pooling import held
from benchmark.report.style import Look

_BANDS = 3
"""Curves up to which intervals are bands; more would merge into one mass, so they are bars, side by side."""

_SPREAD = 0.24
"""The part of the distance between two abscissae over which the bars of one abscissa are spread."""


def key(lines: pd.DataFrame) -> str:
    """What the intervals of these curves are."""
    rows = lines["row"].nunique()
    shape = "bands" if rows <= _BANDS else "bars, side by side for each abscissa"
    return f"{shape}: 95% intervals {held(lines['seeds'])}"


def draw_curves(axis: Axes, lines: pd.DataFrame, at: str, look: dict[str, Look]) -> None:
    """One curve a row of the table: pooled points over the column `at`."""
    rows = list(lines.groupby("row", sort=False))
    gaps = np.diff(np.unique(lines[at].to_numpy(float)))
    step = _SPREAD * float(gaps.min(initial=np.inf)) / len(rows) if len(gaps) else 0.0
    for i, (name, line) in enumerate(rows):
        ordered, style = line.sort_values(at), look[str(name)]
        x, bands = ordered[at].to_numpy(float), len(rows) <= _BANDS
        if not bands:
            x = x + (i - (len(rows) - 1) / 2) * step
        axis.plot(
            *(x, ordered["value"]),
            color=style.color,
            marker=style.marker,
            ls=style.line,
            ms=3.4,
            lw=1.1,
            clip_on=False,
            zorder=3,
        )
        if bands:
            axis.fill_between(
                x, ordered["low"], ordered["high"], color=style.color, alpha=0.13, lw=0
            )
        else:
            axis.vlines(x, ordered["low"], ordered["high"], color=style.color, lw=0.8, alpha=0.55)
