"""Models as points between two quantities: their intervals, their seeds, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from benchmark.report.placing import Bar, place_labels
from benchmark.report.pooling import held
from benchmark.report.quantities import Quantity
from benchmark.report.series import points
from benchmark.report.style import GREY, Look, legend_below, percent
from benchmark.statistics.relations import pareto_front

_DIRECT = 12
"""Rows up to which names stand beside their points; more go to a legend."""

_FRONT = 3
"""How many of the intervals' thin lines the front's thick one counts as, where a name would cover it."""

_KEY = (
    "thin lines: 95% intervals {held}  ·  faint: single seeds  ·  shaded: beyond the Pareto front"
)

Pair = tuple[Quantity, Quantity]
"""What a panel shows across and up."""


def scatter(pairs: Sequence[Pair], look: dict[str, Look]) -> Figure | None:
    """A panel for each pair that some row has both of, side by side; none where there is no such pair."""
    panels = [(pair, both) for pair in pairs if len(both := _joined(*pair))]
    if not panels:
        return None
    figure = Figure(figsize=(max(3.3 * len(panels), 4.2), 3.0))
    shared = len({pair[1].title for pair, _ in panels}) == 1
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=shared)[0]
    for axis, ((x, y), both) in zip(axes, panels, strict=True):
        _panel(axis, x, y, both, look)
        if axis is axes[0] or not shared:
            axis.set_ylabel(y.title)
    bars = [
        [bar for point in _rows(both) for bar in _bars(point)]
        + _FRONT * _segments(*_steps(both, x.sign, y.sign, axis))
        for axis, ((x, y), both) in zip(axes, panels, strict=True)
    ]
    spots = [
        list(zip(*_seeds(x, y)[["x", "y"]].T.to_numpy(float), strict=True)) for (x, y), _ in panels
    ]
    _name_points(figure, list(axes), [both for _, both in panels], bars, spots, look)
    return figure


def _joined(x: Quantity, y: Quantity) -> pd.DataFrame:
    """One line a row with both: x, y and the ends of their intervals."""
    return (
        points(x.records)
        .merge(points(y.records), on="row", suffixes=("_x", "_y"))
        .rename(columns={"value_x": "x", "value_y": "y"})
    )


def _panel(axis: Axes, x: Quantity, y: Quantity, both: pd.DataFrame, look: dict[str, Look]) -> None:
    if x.ratio:
        axis.set_xscale("log")
    for point in _rows(both):
        style = look[point.row]
        for bar in _bars(point):
            axis.plot(*bar, color=style.color, lw=0.6, alpha=0.3, zorder=2)
        axis.plot(point.x, point.y, color=style.color, marker=style.marker, ms=6, ls="", zorder=4)
    seeds = _seeds(x, y)
    for name, line in seeds.groupby("row", sort=False):
        style = look[str(name)]
        axis.scatter(
            *(line["x"], line["y"]),
            s=9, color=style.color, marker=style.marker, alpha=0.4, lw=0, zorder=3,
        )  # fmt: skip
    axis.set_xlim(_limits(both["x"], seeds["x"], x))
    axis.set_ylim(_limits(both["y"], seeds["y"], y))
    _shade_beyond(axis, *_steps(both, x.sign, y.sign, axis), x.sign, y.sign)
    axis.set_xlabel(x.title)
    _ticks(axis, x, y)


def _ticks(axis: Axes, x: Quantity, y: Quantity) -> None:
    if y.percent:
        axis.yaxis.set_major_formatter(percent)
    low, high = axis.get_xlim()
    if x.ratio:
        axis.set_xticks([t for t in (0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100) if low <= t <= high])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axis.xaxis.set_minor_locator(NullLocator())
        return
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    axis.set_xticks([t for t in ticks if max(x.bounds[0], low) <= t <= min(x.bounds[1], high)])
    if x.percent:
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


def _steps(
    both: pd.DataFrame, x_sign: float, y_sign: float, axis: Axes
) -> tuple[list[float], list[float]]:
    """The Pareto front as the border of what is beaten, from the worse end of x to the worse end of y."""
    values = both[["x", "y"]].to_numpy(float)
    best = values[pareto_front(values, [x_sign > 0, y_sign > 0])]
    front = best[np.argsort(best[:, 0] * x_sign)]
    worst_x = axis.get_xlim()[0 if x_sign > 0 else 1]
    worst_y = axis.get_ylim()[0 if y_sign > 0 else 1]
    x, y = np.repeat(front[:, 0], 2), np.repeat(front[:, 1], 2)
    return [float(worst_x), *map(float, x)], [*map(float, y), float(worst_y)]


def _shade_beyond(axis: Axes, x: list[float], y: list[float], x_sign: float, y_sign: float) -> None:
    """What no row reaches: behind the front, up to the panel's better corner."""
    side, top = axis.get_xlim()[1 if x_sign > 0 else 0], axis.get_ylim()[1 if y_sign > 0 else 0]
    axis.fill([*x, side, side, x[0]], [*y, y[-1], top, top], color="#ededed", lw=0, zorder=0)
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


def _limits(means: pd.Series, seeds: pd.Series, quantity: Quantity) -> tuple[float, float]:
    """The points with a margin, hardly beyond the range; a wide interval leaves the panel, the points fill it."""
    first, last = min(means.min(), seeds.min()), max(means.max(), seeds.max())
    if quantity.ratio:
        margin = max(last / first, 1.1) ** 0.14
        return first / margin, last * margin
    margin = 0.14 * (last - first) or 0.05
    beyond = 0.3 * margin
    return max(first - margin, quantity.bounds[0] - beyond), min(
        last + margin, quantity.bounds[1] + beyond
    )


def _name_points(
    figure: Figure,
    axes: list[Axes],
    data: list[pd.DataFrame],
    bars: list[list[Bar]],
    spots: list[list[tuple[float, float]]],
    look: dict[str, Look],
) -> None:
    """Names beside the points of every panel where they fit, otherwise in a legend below."""
    title = _key(data)
    names = dict.fromkeys(name for both in data for name in both["row"])
    key = figure.supxlabel(title, fontsize=6.5, color=GREY)
    if len(names) <= _DIRECT and all(
        place_labels(
            axis,
            [(p.x, p.y, look[p.row].name, look[p.row].ink) for p in _rows(both)],
            lines,
            seeds,
        )
        for axis, both, lines, seeds in zip(axes, data, bars, spots, strict=True)
    ):
        return
    for text in [text for axis in axes for text in axis.texts]:
        text.remove()
    key.set_text("")
    shown = [look[name] for name in names]
    handles = [Line2D([], [], color=o.color, marker=o.marker, ls="", ms=6) for o in shown]
    legend_below(figure, handles, [one.name for one in shown], title=title)
