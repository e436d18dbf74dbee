"""The trade-off: clean and robust accuracy against interpretability, one point a training, its seeds faint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmark.report.names import file_stem
from benchmark.report.placing import Bar, place_labels
from benchmark.report.pooling import held
from benchmark.report.quantities import Quantity, clean_accuracy, interpretability, robust_accuracy
from benchmark.report.read import Run
from benchmark.report.series import named, points
from benchmark.report.style import GREY, Look, legend_below, looks, percent

_DIRECT = 12
"""Rows up to which names stand beside their points; more go to a legend."""

_KEY = (
    "thin lines: 95% intervals {held}  ·  faint: single seeds  ·  shaded: beyond the Pareto front"
)


def tradeoff(run: Run) -> dict[str, Figure]:
    """One figure a data set: a panel of clean and a panel of robust accuracy."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {file_stem("tradeoff", name): figure for name, figure in figures.items() if figure}


def pareto(xy: pd.DataFrame) -> pd.DataFrame:
    """The points that no other beats in both "x" and "y" (higher is better), from the highest y down."""
    ordered = xy.astype({"x": float, "y": float}).sort_values(["x", "y"], ascending=False)
    return ordered[ordered["y"] > ordered["y"].cummax().shift(fill_value=-np.inf)].iloc[::-1]


def steps(both: pd.DataFrame, sign: float, axis: Axes) -> tuple[list[float], list[float]]:
    """The Pareto front as the border of what is beaten, from the left edge of the panel to its worse end."""
    front = pareto(both.assign(y=both["y"] * sign))
    worst = axis.get_ylim()[0 if sign > 0 else 1]
    x, y = list(front["x"]), list(front["y"] * sign)
    corners_x = [axis.get_xlim()[0], *np.repeat(x, 2)]
    return corners_x, [*np.repeat(y, 2), worst]


def _figure(run: Run) -> Figure | None:
    records = named(run.records)
    look = looks(records["row"].unique())
    y = interpretability(records)
    accuracies = [
        axis for axis in (clean_accuracy(records), robust_accuracy(records)) if axis is not None
    ]
    panels = [(x, both) for x in accuracies if y is not None and len(both := _joined(x, y))]
    if y is None or not panels:
        return None
    names = list(dict.fromkeys(name for _, both in panels for name in both["row"]))
    figure = Figure(figsize=(max(3.3 * len(panels), 4.2), 3.0))
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (x, both) in zip(axes, panels, strict=True):
        _panel(axis, x, y, both, look)
    axes[0].set_ylabel(y.title)
    data = [both for _, both in panels]
    bars = [
        [bar for point in _rows(both) for bar in _bars(point)]
        + _segments(*steps(both, y.sign, axis))
        for axis, both in zip(axes, data, strict=True)
    ]
    _name_points(figure, list(axes), data, bars, {name: look[name] for name in names})
    return figure


def _joined(x: Quantity, y: Quantity) -> pd.DataFrame:
    """One line a row with both: x, y and the ends of their intervals."""
    return (
        points(x.records)
        .merge(points(y.records), on="row", suffixes=("_x", "_y"))
        .rename(columns={"value_x": "x", "value_y": "y"})
    )


def _panel(axis: Axes, x: Quantity, y: Quantity, both: pd.DataFrame, look: dict[str, Look]) -> None:
    for point in _rows(both):
        style = look[point.row]
        for bar in _bars(point):
            axis.plot(*bar, color=style.color, lw=0.6, alpha=0.3, zorder=2)
        axis.plot(point.x, point.y, color=style.color, marker=style.marker, ms=6, ls="", zorder=4)
    seeds = _seeds(x, y)
    for name, line in seeds.groupby("row", sort=False):
        style = look[str(name)]
        axis.scatter(
            line["x"],
            line["y"],
            s=9,
            color=style.color,
            marker=style.marker,
            alpha=0.4,
            lw=0,
            zorder=3,
        )
    axis.set_xlim(_limits(both["x"], seeds["x"], x.bounds))
    axis.set_ylim(_limits(both["y"], seeds["y"], y.bounds))
    _shade_beyond(axis, *steps(both, y.sign, axis), y.sign)
    axis.set_xlabel(x.title)
    low, high = x.bounds
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(*axis.get_xlim())
    shown = axis.get_xlim()
    axis.set_xticks([t for t in ticks if max(low, shown[0]) <= t <= min(high, shown[1])])
    axis.xaxis.set_major_formatter(percent)


def _seeds(x: Quantity, y: Quantity) -> pd.DataFrame:
    one, other = (
        axis.records.drop_duplicates(["row", "seed"], keep="last")[["row", "seed", "value"]]
        for axis in (x, y)
    )
    both = one.merge(other, on=["row", "seed"], suffixes=("_x", "_y"))
    return both.rename(columns={"value_x": "x", "value_y": "y"}).dropna()


def _rows(both: pd.DataFrame) -> list[Any]:
    # the tuples' fields are the columns', which types cannot say
    return list(both.itertuples())


def _shade_beyond(axis: Axes, x: list[float], y: list[float], sign: float) -> None:
    """What no row reaches: behind the front, up to the panel's better corner."""
    right, best = axis.get_xlim()[1], axis.get_ylim()[1 if sign > 0 else 0]
    axis.fill([*x, right, right, x[0]], [*y, y[-1], best, best], color="#ededed", lw=0, zorder=0)
    axis.plot(x, y, color="#7d7d7d", lw=1.1, zorder=1, solid_joinstyle="miter")


def _segments(x: list[float], y: list[float]) -> list[Bar]:
    return [[x[i : i + 2], y[i : i + 2]] for i in range(len(x) - 1)]


def _key(data: list[pd.DataFrame]) -> str:
    """What the signs mean, and what the intervals hold."""
    seeds = pd.concat([both[name] for both in data for name in ("seeds_x", "seeds_y")])
    return _KEY.format(held=held(seeds))


def _bars(point: Any) -> list[Bar]:
    """The 95% intervals across and up as lines, none where there is no interval."""
    across = [[point.low_x, point.high_x], [point.y, point.y]]
    up = [[point.x, point.x], [point.low_y, point.high_y]]
    return [bar for bar in (across, up) if np.isfinite(bar).all()]


def _limits(means: pd.Series, seeds: pd.Series, bounds: tuple[float, float]) -> tuple[float, float]:
    """The points with a margin, hardly beyond the range; a wide interval leaves the panel, the points fill it."""
    first, last = min(means.min(), seeds.min()), max(means.max(), seeds.max())
    margin = 0.14 * (last - first) or 0.05
    beyond = 0.3 * margin
    return max(first - margin, bounds[0] - beyond), min(last + margin, bounds[1] + beyond)


def _name_points(
    figure: Figure,
    axes: list[Axes],
    data: list[pd.DataFrame],
    bars: list[list[Bar]],
    look: dict[str, Look],
) -> None:
    """Names beside the points of every panel where they fit, otherwise in a legend below."""
    title = _key(data)
    key = figure.supxlabel(title, fontsize=6.5, color=GREY)
    if len(look) <= _DIRECT and all(
        place_labels(axis, [(p.x, p.y, look[p.row].name) for p in _rows(both)], lines)
        for axis, both, lines in zip(axes, data, bars, strict=True)
    ):
        return
    for text in [text for axis in axes for text in axis.texts]:
        text.remove()
    key.set_text("")
    handles = [Line2D([], [], color=o.color, marker=o.marker, ls="", ms=6) for o in look.values()]
    legend_below(figure, handles, [one.name for one in look.values()], title=title)
