"""Models as points between two quantities: intervals, seeds, the Pareto front, and what does not beat its controls."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from benchmark.report.drawing.control_lines import control_handles, draw_controls
from benchmark.report.drawing.front import segments, shade_beyond, steps
from benchmark.report.drawing.placing import Bar
from benchmark.report.drawing.point_names import Crowd, marker, name_points
from benchmark.report.drawing.style import GREY, Look, percent
from benchmark.report.pooling import held
from benchmark.report.quantities import Quantity
from benchmark.report.series import points

_FRONT = 3
"""How many of the intervals' thin lines the front's thick one counts as, where a name would cover it."""
_WIDTH = 23
"""Characters of the key's small print in an inch."""

_KEY = "thin lines: 95% intervals {held}  ·  faint: single seeds"
_BEYOND = "  ·  shaded: beyond the Pareto front"
_HOLLOW = "not seen to beat its controls ‡"

Pair = tuple[Quantity, Quantity]
"""What a panel shows across and up; only the upper one is drawn with its controls."""


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
    crowds = [_crowd(axis, x, y, both) for axis, ((x, y), both) in zip(axes, panels, strict=True)]
    hollow = frozenset[str]().union(*(y.unbeaten for (_, y), _ in panels))
    width = int(_WIDTH * figure.get_figwidth())
    name_points(figure, crowds, look, hollow, _signs(panels), _key(panels, width))
    return figure


def _joined(x: Quantity, y: Quantity) -> pd.DataFrame:
    """One line a row with both: x, y, the ends of their intervals, and whether y beats its controls."""
    both = (
        points(x.records)
        .merge(points(y.records), on="row", suffixes=("_x", "_y"))
        .rename(columns={"value_x": "x", "value_y": "y"})
    )
    return both.assign(beaten=~both["row"].isin(y.unbeaten))


def _panel(axis: Axes, x: Quantity, y: Quantity, both: pd.DataFrame, look: dict[str, Look]) -> None:
    if x.ratio:
        axis.set_xscale("log")
    for point in _rows(both):
        style = look[point.row]
        for bar in _bars(point):
            axis.plot(*bar, color=style.color, lw=0.6, alpha=0.3, zorder=2)
        axis.plot(point.x, point.y, **marker(style, not point.beaten), zorder=4)
    seeds = _seeds(x, y)
    for name, line in seeds.groupby("row", sort=False):
        style = look[str(name)]
        axis.scatter(
            *(line["x"], line["y"]),
            s=9, color=style.color, marker=style.marker, alpha=0.4, lw=0, zorder=3,
        )  # fmt: skip
    axis.set_xlim(_limits([*both["x"], *seeds["x"]], x))
    axis.set_ylim(_limits([*both["y"], *seeds["y"], *sum(y.controls.values(), ())], y))
    draw_controls(axis, y.controls)
    shade_beyond(axis, *_front(axis, x, y, both), x.sign, y.sign)
    axis.set_xlabel(x.title)
    _ticks(axis, x, y)


def _front(
    axis: Axes, x: Quantity, y: Quantity, both: pd.DataFrame
) -> tuple[list[float], list[float]]:
    """As it is never bold, a score that does not beat its controls is no corner of the front."""
    return steps(both[both["beaten"]], x.sign, y.sign, axis)


def _ticks(axis: Axes, x: Quantity, y: Quantity) -> None:
    if y.percent:
        axis.yaxis.set_major_formatter(percent)
    low, high = axis.get_xlim()
    if x.ratio:
        axis.set_xticks(_ratios(low, high))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axis.xaxis.set_minor_locator(NullLocator())
        return
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    axis.set_xticks([t for t in ticks if max(x.bounds[0], low) <= t <= min(x.bounds[1], high)])
    if x.percent:
        axis.xaxis.set_major_formatter(percent)


def _ratios(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: round ratios, and where fewer than two of them lie between its ends, any numbers."""
    usual = [t for t in (0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100) if low <= t <= high]
    if len(usual) > 1:
        return usual
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(t) for t in ticks if low <= t <= high]


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


def _crowd(axis: Axes, x: Quantity, y: Quantity, both: pd.DataFrame) -> Crowd:
    bars = [bar for point in _rows(both) for bar in _bars(point)]
    bars += _FRONT * segments(*_front(axis, x, y, both))
    across = list(axis.get_xlim())
    bars += [[across, [end, end]] for ends in y.controls.values() for end in {*ends}]
    spots = _seeds(x, y)[["x", "y"]].to_numpy(float)
    named = [(point.row, point.x, point.y) for point in _rows(both)]
    return Crowd(axis, named, bars, [(float(a), float(b)) for a, b in spots])


def _signs(panels: Sequence[tuple[Pair, pd.DataFrame]]) -> dict[str, Artist]:
    """Hollow points and controls, where there are any."""
    hollow = any(not both["beaten"].all() for _, both in panels)
    shape = marker(Look("", GREY, "o", "-"), hollow=True)
    found: dict[str, Artist] = {_HOLLOW: Line2D([], [], **shape)} if hollow else {}
    for (_, y), _ in panels:
        found |= control_handles(y.controls)
    return found


def _key(panels: Sequence[tuple[Pair, pd.DataFrame]], width: int) -> list[str]:
    """What the lines mean, what the intervals hold, and how a measure was chosen."""
    seeds = pd.concat([both[name] for _, both in panels for name in ("seeds_x", "seeds_y")])
    front = any(both["beaten"].any() for _, both in panels)
    notes = dict.fromkeys(note for (_, y), _ in panels for note in y.notes)
    return [
        _KEY.format(held=held(seeds)) + _BEYOND * front,
        *(line for note in notes for line in textwrap.wrap(note, width)),
    ]


def _bars(point: Any) -> list[Bar]:
    """The 95% intervals across and up as lines, none where there is no interval."""
    across = [[point.low_x, point.high_x], [point.y, point.y]]
    up = [[point.x, point.x], [point.low_y, point.high_y]]
    return [bar for bar in (across, up) if np.isfinite(bar).all()]


def _limits(values: Sequence[float], quantity: Quantity) -> tuple[float, float]:
    """The points with a margin, hardly beyond the range; a wide interval leaves the panel, the points fill it."""
    first, last = min(values), max(values)
    if quantity.ratio:
        margin = max(last / first, 1.1) ** 0.14
        return first / margin, last * margin
    margin = 0.14 * (last - first) or 0.05
    beyond = 0.3 * margin
    return max(first - margin, quantity.bounds[0] - beyond), min(
        last + margin, quantity.bounds[1] + beyond
    )
