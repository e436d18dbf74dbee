"""ROAR and KAR: accuracy after retraining without (with only) the pixels that an attribution ranks first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.drawing.control_lines import LINES
from benchmark.report.drawing.curves import draw_curves, key, legend, told
from benchmark.report.drawing.style import GREY, Look, looks, percent
from benchmark.report.names import file_stem
from benchmark.report.read import Run
from benchmark.report.series import named, points

_ACROSS = 3
_MEASURE = "accuracy"
_BESIDE = 0.05
"""Half of a panel's width where pixels were removed at one level only."""
_LEAST_FIRST = "kar"
"""The metric that keeps what others remove: its abscissa counts from the other end of the ranking."""


def fidelity_curves(run: Run) -> dict[str, Figure]:
    """One figure a data set, one panel a metric, one line a training; the controls' mean and range in grey."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {
        file_stem("fidelity-curves", name): figure for name, figure in figures.items() if figure
    }


def _figure(run: Run) -> Figure | None:
    records = named(run.records)
    look = looks(records["row"].unique())
    curves = records[(records["family"] == "fidelity") & np.isfinite(records["at"])]
    lines = points(curves[curves["measure"] == _MEASURE], ["metric", "label", "at"])
    # where they were measured (`random_accuracy`, ...)
    controls = {
        name: points(curves[curves["measure"] == f"{name}_{_MEASURE}"], ["metric", "label", "at"])
        for name in LINES
    }
    controls = {name: own for name, own in controls.items() if len(own)}
    labels = list(lines["label"].unique())
    if not labels:
        return None
    down = -(-len(labels) // _ACROSS)
    across = -(-len(labels) // down)  # full rows: 4 panels are 2 x 2
    heights = lines.groupby("row", sort=False)["value"].mean()
    shown = told(heights, look)
    figure = Figure(figsize=(max(2.6 * across, 6.3), 2.3 * down))
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for axis, label in zip(axes.flat, labels, strict=False):
        beside = {name: own[own["label"] == label] for name, own in controls.items()}
        _panel(axis, label, lines[lines["label"] == label], beside, shown)
    for axis in axes.flat[len(labels) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy after retraining")
    grey = {
        f"{name} control": Line2D([], [], color=GREY, ls=LINES[name], lw=1.2) for name in controls
    }
    legend(figure, shown, len(heights), f"{key(lines, 'at', shown)}, refits included", grey)
    return figure


def _panel(
    axis: Axes,
    label: str,
    lines: pd.DataFrame,
    controls: Mapping[str, pd.DataFrame],
    look: dict[str, Look],
) -> None:
    levels = np.unique(lines["at"])
    ends = (levels[0] - _BESIDE, levels[0] + _BESIDE)
    for name, control in controls.items():
        if control.empty:  # not every metric need have the same controls
            continue
        spread = control.groupby("at")["value"].agg(["mean", "min", "max"]).sort_index()
        if len(levels) == 1:  # what is no curve is a line beside the points
            spread = spread.iloc[[0, 0]].set_axis(ends)
        axis.fill_between(spread.index, spread["min"], spread["max"], color=GREY, alpha=0.15, lw=0)
        axis.plot(spread.index, spread["mean"], color=GREY, ls=LINES[name], lw=1.2, zorder=3)
    draw_curves(axis, lines, "at", look)
    if len(levels) == 1:
        axis.set(xlim=ends, xticks=levels)
    axis.set_title(label)
    first = "least" if (lines["metric"] == _LEAST_FIRST).any() else "most"
    axis.set_xlabel(f"pixels removed, {first} important first")
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(percent)
