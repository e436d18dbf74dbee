"""Curves of several trainings in one panel, with intervals that stay readable however many there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.drawing.style import Look, legend_below
from benchmark.report.pooling import held

_BANDS = 3
"""Curves up to which intervals are bands; more would merge into one mass, so they are bars, side by side."""

MANY = 14
"""Curves up to which each has its look and its name."""
_ENDS = 4
"""Of more curves, so many of the highest and of the lowest have."""
REST: Mapping[str, Any] = {"color": "#c8c8c8", "lw": 0.7, "zorder": 2}
"""How the others are drawn."""

_SPREAD = 0.24
"""The part of the distance between two abscissae over which the bars of one abscissa are spread."""
_WIDEST = 0.12
"""Of few abscissae, it is no more than this part of all that they span."""
_ALONE = 0.025
"""It where there is only one."""


def told(heights: pd.Series, look: Mapping[str, Look]) -> dict[str, Look]:
    """The looks of the curves that are told apart: all of up to 14, otherwise the highest and the lowest few.

    `heights` has a value for every curve, by row; the others are drawn thin and grey.
    """
    if len(heights) <= MANY:
        return {str(row): look[str(row)] for row in heights.index}
    order = heights.sort_values(kind="stable").index
    ends = {*order[:_ENDS], *order[-_ENDS:]}
    return {str(row): look[str(row)] for row in heights.index if row in ends}


def legend(
    figure: Figure,
    shown: Mapping[str, Look],
    count: int,
    title: str = "",
    more: Mapping[str, Line2D] | None = None,
) -> None:
    """The names of the `shown` of so many curves, what the grey ones are, and what else there is."""
    handles = [
        Line2D([], [], color=o.color, marker=o.marker, ls=o.line, ms=3.2) for o in shown.values()
    ]
    labels = [one.name for one in shown.values()]
    rest = count - len(shown)
    if rest:
        handles.append(Line2D([], [], **REST))
        labels.append(f"{rest} others")
        title = f"named: the {_ENDS} highest and the {_ENDS} lowest in the mean\n{title}".rstrip()
    legend_below(figure, [*handles, *(more or {}).values()], [*labels, *(more or {})], title)


def _banded(at: pd.Series, rows: int) -> bool:
    """Whether intervals are bands, which a single abscissa has no room for."""
    return rows <= _BANDS and at.nunique() > 1


def key(lines: pd.DataFrame, at: str, shown: Mapping[str, Look]) -> str:
    """What the intervals of these curves over the column `at` are."""
    shape = "bands" if _banded(lines[at], len(shown)) else "bars, side by side for each abscissa"
    return f"{shape}: 95% intervals {held(lines['seeds'])}"


def draw_curves(axis: Axes, lines: pd.DataFrame, at: str, look: Mapping[str, Look]) -> None:
    """One curve a row of the table: points over the column `at`, grey and without intervals if it has no look."""
    every = list(lines.groupby("row", sort=False))
    for _, line in (each for each in every if each[0] not in look):
        ordered = line.sort_values(at)
        axis.plot(ordered[at], ordered["value"], **REST)
    rows = [each for each in every if each[0] in look]
    gaps = np.diff(np.unique(lines[at].to_numpy(float)))
    room = min(_SPREAD * gaps.min(), _WIDEST * gaps.sum()) if len(gaps) else _ALONE
    step = float(room) / max(len(rows), 1)
    bands = _banded(lines[at], len(rows))
    for i, (name, line) in enumerate(rows):
        ordered, style = line.sort_values(at), look[str(name)]
        x = ordered[at].to_numpy(float)
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
