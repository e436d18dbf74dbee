"""The Pareto front of a panel: the border of what is beaten, and the shade beyond it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from benchmark.report.drawing.placing import Bar
from benchmark.statistics.relations import pareto_front


def steps(
    both: pd.DataFrame, x_sign: float, y_sign: float, axis: Axes
) -> tuple[list[float], list[float]]:
    """The front from the worse end of x to the worse end of y; empty without rows."""
    if both.empty:
        return [], []
    values = both[["x", "y"]].to_numpy(float)
    best = values[pareto_front(values, [x_sign > 0, y_sign > 0])]
    front = best[np.argsort(best[:, 0] * x_sign)]
    worst_x = axis.get_xlim()[0 if x_sign > 0 else 1]
    worst_y = axis.get_ylim()[0 if y_sign > 0 else 1]
    x, y = np.repeat(front[:, 0], 2), np.repeat(front[:, 1], 2)
    return [float(worst_x), *map(float, x)], [*map(float, y), float(worst_y)]


def shade_beyond(axis: Axes, x: list[float], y: list[float], x_sign: float, y_sign: float) -> None:
    """What no row reaches: behind the front, up to the panel's better corner."""
    if not x:
        return
    side, top = axis.get_xlim()[1 if x_sign > 0 else 0], axis.get_ylim()[1 if y_sign > 0 else 0]
    axis.fill([*x, side, side, x[0]], [*y, y[-1], top, top], color="#ededed", lw=0, zorder=0)
    axis.plot(x, y, color="#7d7d7d", lw=1.1, zorder=1, solid_joinstyle="miter")


def segments(x: list[float], y: list[float]) -> list[Bar]:
    """The front as straight lines, for names to keep off."""
    return [[x[i : i + 2], y[i : i + 2]] for i in range(len(x) - 1)]
