"""DiffROAR: accuracy after retraining on the pixels that an attribution ranks first, minus that on the last."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.drawing.curves import draw_curves, key, legend, told
from benchmark.report.drawing.style import GREY, Look, looks, percent
from benchmark.report.names import file_stem
from benchmark.report.read import Run
from benchmark.report.series import named, points

_TOP, _BOTTOM = "top_accuracy", "bottom_accuracy"
_ACROSS = 3


def diff_roar(run: Run) -> dict[str, Figure]:
    """One figure a data set, one panel an attribution, one line a training."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {file_stem("diff-roar", name): figure for name, figure in figures.items() if figure}


def _figure(run: Run) -> Figure | None:
    records = named(run.records)
    lines = _differences(records[np.isfinite(records["at"])])
    labels = list(lines["label"].unique())
    if not labels:
        return None
    heights = lines.groupby("row", sort=False)["value"].mean()
    look = told(heights, looks(records["row"].unique()))
    down = -(-len(labels) // _ACROSS)
    across = -(-len(labels) // down)
    figure = Figure(figsize=(max(2.6 * across, 3.6), 2.3 * down))
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for axis, label in zip(axes.flat, labels, strict=False):
        _panel(axis, label, lines[lines["label"] == label], look)
    for axis in axes.flat[len(labels) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel("difference of accuracies")
    random = Line2D([], [], color=GREY, ls=(0, (3, 2)), lw=1.2)
    legend(
        figure, look, len(heights), key(lines, "at", look), {"random maps, in expectation": random}
    )
    return figure


def _differences(curves: pd.DataFrame) -> pd.DataFrame:
    """Top minus bottom for every row, label and kept fraction.

    The interval takes the two networks' errors as independent (their limits added in squares: Zou & Donner 2008); they
    are judged on the same images, so it is rather too wide.
    """
    keys = ["row", "label", "at"]
    top, bottom = (points(curves[curves["measure"] == name], keys[1:]) for name in (_TOP, _BOTTOM))
    both = top.merge(bottom, on=keys, suffixes=("_top", "_bottom"))
    value = both["value_top"] - both["value_bottom"]
    below = np.hypot(
        both["value_top"] - both["low_top"], both["high_bottom"] - both["value_bottom"]
    )
    above = np.hypot(
        both["high_top"] - both["value_top"], both["value_bottom"] - both["low_bottom"]
    )
    return both[keys].assign(
        value=value, low=value - below, high=value + above, seeds=both["seeds_top"]
    )


def _panel(axis: Axes, label: str, lines: pd.DataFrame, look: dict[str, Look]) -> None:
    # random maps have 0 in expectation
    axis.axhline(0, color=GREY, ls=(0, (3, 2)), lw=1.2, zorder=1)
    draw_curves(axis, lines, "at", look)
    axis.set_title(label)
    axis.set_xlabel("pixels kept")
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(percent)
