"""Measures against the radius of the attack trained with: a point a training, a fitted line a series of trainings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.drawing.style import GREY, Look, legend_below, looks, percent, room
from benchmark.report.names import arrow, file_stem, norm_sign
from benchmark.report.pooling import in_percent
from benchmark.report.read import Run
from benchmark.report.series import labelled
from benchmark.report.tables.beside import apart
from benchmark.report.tables.cells import NO_MORE
from benchmark.report.trends import Trend, Verdicts, above_controls, trends
from benchmark.statistics.relations import Correlation, pearson, spearman

_ACROSS = 3
_MOST = 9
"""Panels of a figure: clean accuracy, of each of these families in turn the next measure, then those of the others."""

_FAMILIES = ("fidelity", "manifold", "robustness", "sharpness")
_UNTOLD = "\n‡: fewer than half of the scores beat all their controls"
_NOTE = "bars: 95% intervals; r: Pearson, ρ: Spearman, with 95% intervals over trainings; 0: standard training"


class _Measure(NamedTuple):
    """A panel: its title, and whether its values are shares of images."""

    title: str
    shares: bool
    series: dict[str, pd.DataFrame]
    """Name of the series -> strength, value, low, high of its trainings."""


def attack_strength(run: Run) -> dict[str, Figure]:
    """One figure a data set whose run has trainings that differ only in their radius: a panel a measure."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {
        file_stem("attack-strength", name): figure for name, figure in figures.items() if figure
    }


def _figure(run: Run) -> Figure | None:
    found = trends(run.records)
    if not found:
        return None
    panels = _measures(run.records, found, above_controls(run))
    down = -(-len(panels) // _ACROSS)
    across = -(-len(panels) // down)
    figure = Figure(figsize=(max(2.5 * across, 3.6), 2.35 * down))
    look = looks({name: None for panel in panels for name in panel.series}, room(figure))
    axes = figure.subplots(down, across, squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _panel(axis, panel, look)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    shown = list(look.values())
    handles = [Line2D([], [], color=o.color, marker=o.marker, ls=o.line, ms=4) for o in shown]
    untold = any(panel.title.endswith(NO_MORE) for panel in panels)
    legend_below(figure, handles, [one.name for one in shown], _NOTE + _UNTOLD * untold)
    return figure


def _measures(records: pd.DataFrame, found: list[Trend], verdicts: Verdicts) -> list[_Measure]:
    """Clean accuracy, then the measures of the families in turn, as many as a figure takes."""
    heads = labelled(apart(records[records["headline"].astype(bool) & records["at"].isna()]))
    cards = {
        (line["metric"], line["params"], f"{line['label']} {line['threat']}".strip()): line
        for line in heads.drop_duplicates(["metric", "params", "threat"]).to_dict("records")
    }
    by_family: dict[str, dict[str, _Measure]] = {}
    accuracy = _Measure("Clean accuracy ↑", True, {})
    for trend in found:
        card = cards[trend.metric, trend.params, trend.label]
        family = by_family.setdefault(str(card["family"]), {})
        shares = in_percent(str(card["family"]), str(card["range"]))
        title = (
            f"{norm_sign(trend.label)} {arrow(str(card['direction']))}".rstrip()
            + f" {NO_MORE}" * _untold(found, trend.label, verdicts)
        )
        panel = family.setdefault(trend.label, _Measure(title, shares, {}))
        panel.series[_series(trend)] = trend.models
        plain = trend.models.assign(value=trend.models["accuracy"], low=np.nan, high=np.nan)
        accuracy.series.setdefault(_series(trend), plain.dropna(subset=["value"]))
    panels = {family: list(own.values()) for family, own in by_family.items()}
    rest = _in_turn([panels.pop(family, []) for family in _FAMILIES], _MOST - 1)
    rest += _in_turn(list(panels.values()), _MOST - 1 - len(rest))
    return [accuracy, *rest] if any(map(len, accuracy.series.values())) else rest


def _untold(found: list[Trend], label: str, verdicts: Verdicts) -> bool:
    """Whether fewer than half of a panel's scores that have controls beat them."""
    each = [trend.above(verdicts) for trend in found if trend.label == label]
    return 2 * sum(beating for beating, _ in each) < sum(known for _, known in each)


def _series(trend: Trend) -> str:
    """A series by name, with the radius that 1 stands for."""
    norm = norm_sign(f"{trend.norm} 0").removesuffix(" 0")
    return f"{trend.series.replace(trend.norm, norm)}, up to {trend.models['strength'].max():g}"


def _in_turn(families: list[list[_Measure]], most: int) -> list[_Measure]:
    """Family by family, with as many measures of each as make `most` panels together."""
    taken = [0] * len(families)
    for _ in range(most):
        left = [i for i, family in enumerate(families) if taken[i] < len(family)]
        if left:
            taken[min(left, key=lambda i: taken[i])] += 1
    return [one for family, count in zip(families, taken, strict=True) for one in family[:count]]


def _panel(axis: Axes, panel: _Measure, look: dict[str, Look]) -> None:
    said = []
    for name, models in panel.series.items():
        style, shown = look[name], models.dropna(subset=["value"])
        x, y = shown["strength"].to_numpy(float), shown["value"].to_numpy(float)
        if len(x) < 2:
            continue
        x = x / x.max()
        axis.vlines(x, shown["low"], shown["high"], color=style.color, lw=0.7, alpha=0.45)
        axis.plot(x, y, color=style.color, marker=style.marker, ms=4, ls="", zorder=4)
        slope, start = np.polyfit(x, y, 1)
        ends = np.array([x.min(), x.max()])
        axis.plot(ends, start + slope * ends, color=style.color, ls=style.line, lw=1.1)
        said.append((f"r {_told(pearson(x, y))}   ρ {_told(spearman(x, y))}", style.ink))
        if y.min() < 0 < y.max():
            axis.axhline(0, color=GREY, lw=0.6, zorder=1)
    axis.set_title(panel.title, pad=4 + 9 * len(said))
    for i, (text, colour) in enumerate(reversed(said)):
        axis.annotate(
            text, (0, 1), (0, 3 + 9 * i), xycoords="axes fraction", textcoords="offset points",
            fontsize=6, color=colour,
        )  # fmt: skip
    axis.set_xlabel("radius / largest radius")
    if panel.shares:
        axis.yaxis.set_major_formatter(percent)


def _told(found: Correlation) -> str:
    """A coefficient with its interval."""
    if not np.isfinite(found.value):
        return "–"
    interval = f" [{found.low:.2f}, {found.high:.2f}]" if np.isfinite(found.low) else ""
    return f"{found.value:.2f}{interval}".replace("-", "−")
