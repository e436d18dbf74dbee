"""Fidelity beside its controls: each model's score, and in grey what noise, edges and its blurred maps score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.controls import CONTROLS
from benchmark.report.drawing.control_lines import LINES, MARKERS, NAMES
from benchmark.report.drawing.curves import MANY
from benchmark.report.drawing.style import GREY, Look, legend_below, looks
from benchmark.report.names import arrow, file_stem
from benchmark.report.pooling import MEASURE, held
from benchmark.report.read import Run
from benchmark.report.series import named, points
from benchmark.report.tables.beside import Key, control, control_columns

_ACROSS, _ACROSS_TALL = 3, 4


def fidelity_controls(run: Run) -> dict[str, Figure]:
    """One figure a data set, one panel a measure that has controls, one line a training."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {
        file_stem("fidelity-controls", name): figure for name, figure in figures.items() if figure
    }


def _figure(run: Run) -> Figure | None:
    records = named(run.records)
    panels = _panels(records)
    if not panels:
        return None
    rows = [
        row for row in records["row"].unique() if any(row in s.index for s, _ in panels.values())
    ]
    look = looks(records["row"].unique())
    down = -(-len(panels) // (_ACROSS if len(rows) <= MANY else _ACROSS_TALL))
    across = -(-len(panels) // down)
    figure = Figure(
        figsize=(1.6 + max(2.1 * across, 2.6), (0.55 + 0.17 * max(len(rows), 3)) * down)
    )
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for axis, (title, (scores, controls)) in zip(axes.flat, panels.items(), strict=False):
        _panel(axis, rows, scores, controls, look)
        axis.set_title(title)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    axes[0, 0].set_yticks(range(len(rows)), [look[row].name for row in rows])
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    _legend(figure, panels)
    return figure


def _panels(records: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, dict[str, pd.DataFrame]]]:
    """Title -> the scores by row, and those of every control; none where nothing was measured beside them."""
    heads = records[(records["family"] == "fidelity") & records["headline"] & records["at"].isna()]
    keys = [tuple(map(str, key)) for key in heads[MEASURE].drop_duplicates().to_numpy(object)]
    found = {}
    for key, controls in control_columns(records, keys).items():
        scores, arrow = _of(records, key), _arrow(heads, key)
        if any(controls.values()) and len(scores) and not control(key[1], key[3]):
            beside = {
                name: _of(records, other) if other else scores.assign(value=0.0, low=0.0, high=0.0)
                for name, other in controls.items()
            }
            title = " ".join(filter(None, [key[2], key[4], arrow]))
            title += f" {key[3]}" * (title in found)
            found[title] = (scores, {name: own for name, own in beside.items() if len(own)})
    return found


def _of(records: pd.DataFrame, key: Key) -> pd.DataFrame:
    """The pooled values of a column, by row."""
    same = (records[MEASURE].astype(str) == list(key)).all(axis=1) & records["at"].isna()
    return points(records[same]).set_index("row")


def _arrow(heads: pd.DataFrame, key: Key) -> str:
    same = (heads[MEASURE].astype(str) == list(key)).all(axis=1)
    return arrow(str(heads.loc[same, "direction"].iloc[0]))


def _panel(
    axis: Axes,
    rows: list[str],
    scores: pd.DataFrame,
    controls: Mapping[str, pd.DataFrame],
    look: dict[str, Look],
) -> None:
    for name, own in controls.items():
        if np.ptp(own["value"]) == 0:  # it knows the image alone
            axis.axvline(own["value"].iloc[0], color=GREY, ls=LINES[name], lw=1.2, zorder=1)
            continue
        own = own[own.index.isin(rows)]  # its own map may have failed where the control did not
        y = [rows.index(row) for row in own.index]
        axis.hlines(y, own["low"], own["high"], color=GREY, lw=0.8, zorder=2)
        axis.plot(own["value"], y, **_hollow(name), zorder=3)
    for line in scores.reset_index().to_dict("records"):
        style, at = look[line["row"]], rows.index(line["row"])
        axis.hlines(at, line["low"], line["high"], color=style.color, lw=0.9, zorder=4)
        axis.plot(line["value"], at, color=style.color, marker=style.marker, ms=4.5, zorder=5)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)


def _hollow(name: str) -> dict[str, Any]:
    return {"ls": "", "marker": MARKERS[name], "ms": 4.5, "mfc": "white", "mec": GREY, "mew": 1.0}


def _legend(
    figure: Figure, panels: Mapping[str, tuple[pd.DataFrame, dict[str, pd.DataFrame]]]
) -> None:
    """What was drawn for each control: its line, its marker, or both."""
    drawn = {
        (name, np.ptp(own["value"]) == 0)
        for _, controls in panels.values()
        for name, own in controls.items()
    }
    shown = [name for name in CONTROLS if {(name, True), (name, False)} & drawn]
    handles = [
        Line2D(
            [], [], color=GREY, lw=1.2,
            **(_hollow(name) if (name, False) in drawn else {})
            | {"ls": LINES[name] if (name, True) in drawn else ""},
        )
        for name in shown
    ]  # fmt: skip
    seeds = pd.concat([scores["seeds"] for scores, _ in panels.values()])
    title = f"lines: 95% intervals {held(seeds)}, refits included; grey: controls"
    legend_below(figure, handles, [NAMES[name] for name in shown], title)
