"""Who is who in a scatter plot: names beside the points where they fit, a legend of them otherwise, and a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmark.report.drawing.placing import Bar, place_labels
from benchmark.report.drawing.style import GREY, Look, legend_below

_DIRECT = 12
"""Rows up to which names stand beside their points; more go to a legend."""


@dataclass(frozen=True)
class Crowd:
    """What a panel holds, for names to keep off."""

    axis: Axes
    points: Sequence[tuple[str, float, float]]
    """(row, x, y)."""
    bars: Sequence[Bar]
    spots: Sequence[tuple[float, float]]


def name_points(
    figure: Figure,
    crowds: Sequence[Crowd],
    look: Mapping[str, Look],
    hollow: frozenset[str],
    signs: Mapping[str, Artist],
    key: Sequence[str],
) -> None:
    """Names, below them what the `signs` mean, and the lines of the `key`."""
    rows = list(dict.fromkeys(row for crowd in crowds for row, _, _ in crowd.points))
    height = figure.get_figheight()
    _below(figure, signs, key)
    if len(rows) <= _DIRECT and all(_placed(crowd, look) for crowd in crowds):
        return
    for text in [text for crowd in crowds for text in crowd.axis.texts]:
        text.remove()
    for legend in figure.legends[:]:
        legend.remove()
    figure.supxlabel("")
    figure.set_figheight(height)
    points = {look[row].name: Line2D([], [], **marker(look[row], row in hollow)) for row in rows}
    _below(figure, {**points, **signs}, key)


def marker(look: Look, hollow: bool) -> dict[str, Any]:
    """A row's point: hollow where its score says nothing."""
    shape = {"color": look.color, "marker": look.marker, "ls": "", "ms": 6}
    return shape | ({"mfc": "white", "mew": 1.2, "ms": 5.5} if hollow else {})


def _placed(crowd: Crowd, look: Mapping[str, Look]) -> bool:
    labels = [(x, y, look[row].name, look[row].ink) for row, x, y in crowd.points]
    return place_labels(crowd.axis, labels, crowd.bars, crowd.spots)


def _below(figure: Figure, signs: Mapping[str, Artist], key: Sequence[str]) -> None:
    """A legend with the key as its title, or the key alone."""
    if signs:
        legend_below(figure, list(signs.values()), list(signs), title="\n".join(key))
    else:
        figure.supxlabel("\n".join(key), fontsize=6.5, color=GREY)
