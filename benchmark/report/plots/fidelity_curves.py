"""ROAR and KAR: accuracy after retraining without (with only) the pixels that an attribution ranks first."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.curves import draw_curves, key
from benchmark.report.names import file_stem
from benchmark.report.read import Run
from benchmark.report.series import named, points
from benchmark.report.style import GREY, Look, legend_below, looks, percent

_ACROSS = 3
_MEASURE, _CONTROL = "accuracy", "random_accuracy"
_LEAST_FIRST = "kar"
"""The metric that keeps what others remove: its abscissa counts from the other end of the ranking."""


def fidelity_curves(run: Run) -> dict[str, Figure]:
    """One figure a data set, one panel a metric, one line a training; the random controls' mean (grey) and range."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {
        file_stem("fidelity-curves", name): figure for name, figure in figures.items() if figure
    }


def _figure(run: Run) -> Figure | None:
    records = named(run.records)
    look = looks(records["row"].unique())
    curves = records[(records["family"] == "fidelity") & np.isfinite(records["at"])]
    lines = points(curves[curves["measure"] == _MEASURE], ["metric", "label", "at"])
    control = points(curves[curves["measure"] == _CONTROL], ["metric", "label", "at"])
    labels = list(lines["label"].unique())
    if not labels:
        return None
    down = -(-len(labels) // _ACROSS)
    across = -(-len(labels) // down)  # full rows: 4 panels are 2 x 2
    names = list(lines["row"].unique())
    figure = Figure(figsize=(max(2.6 * across, 3.6), 2.3 * down))
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for axis, label in zip(axes.flat, labels, strict=False):
        _panel(
            axis, label, lines[lines["label"] == label], control[control["label"] == label], look
        )
    for axis in axes.flat[len(labels) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy after retraining")
    _legend(
        figure,
        {name: look[name] for name in names},
        f"{key(lines)}, refits included",
        with_control=len(control) > 0,
    )
    return figure


def _panel(
    axis: Axes, label: str, lines: pd.DataFrame, control: pd.DataFrame, look: dict[str, Look]
) -> None:
    if len(control):
        spread = control.groupby("at")["value"].agg(["mean", "min", "max"]).sort_index()
        axis.fill_between(spread.index, spread["min"], spread["max"], color=GREY, alpha=0.15, lw=0)
        axis.plot(spread.index, spread["mean"], color=GREY, ls=(0, (3, 2)), lw=1.2, zorder=3)
    draw_curves(axis, lines, "at", look)
    axis.set_title(label)
    first = "least" if (lines["metric"] == _LEAST_FIRST).any() else "most"
    axis.set_xlabel(f"pixels removed, {first} important first")
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(percent)


def _legend(figure: Figure, look: dict[str, Look], title: str, with_control: bool) -> None:
    handles: list[Artist] = [
        Line2D([], [], color=one.color, marker=one.marker, ls=one.line, ms=3.2)
        for one in look.values()
    ]
    labels = [one.name for one in look.values()]
    if with_control:
        handles.append(Line2D([], [], color=GREY, ls=(0, (3, 2)), lw=1.2))
        labels.append("random control")
    legend_below(figure, handles, labels, title)
