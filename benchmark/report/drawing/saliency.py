"""Saliency maps as pictures: what the gallery and the grid of attributions share."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmark.report.read import Picture, Run
from benchmark.report.series import marked_names

VERDICTS = "below: the true class of an input, the predicted one of a map (×: wrong)"
"""What stands below the pictures, in words."""

CELL = 0.82
"""Inches of a picture."""

_ACROSS = 14
"""Letters of a line over a picture."""
_PIECES = r"[^=_.@/-]*[=_.@/-]?\s*"
"""A line may end behind such a sign, as in input_ | gradient."""
_LETTERS = 16
"""Of a class below a picture."""

_PERCENTILE = 99.5
_COLOURS = "RdBu_r"

Arrays = dict[str, NDArray[Any]]


def by_attribution(run: Run) -> dict[str, dict[str, Arrays]]:
    """Attribution -> {row name: arrays with that map}, each model by its first seed, in the order of the tables."""
    names = marked_names(run.records)
    first: dict[tuple[str, str], Picture] = {}
    for picture in sorted(run.gallery, key=lambda p: p.seed):
        first.setdefault((picture.model, picture.trainer), picture)
    # a model without a record still shows, under its trainer's name
    keys = [key for key in names if key in first] + [key for key in first if key not in names]
    loaded = {names.get(key, f"{key[1]}, {key[0]}"): first[key].arrays() for key in keys}
    found: dict[str, dict[str, Arrays]] = {}
    for name, arrays in loaded.items():
        for entry in sorted(arrays):
            if entry.startswith("map/"):
                found.setdefault(entry.removeprefix("map/"), {})[name] = arrays
    return found


def colour_bar(figure: Figure, axes: NDArray[Any], text: str) -> None:
    """The one scale of all maps of a figure."""
    scale = ScalarMappable(Normalize(-1, 1), _COLOURS)
    bar = figure.colorbar(
        scale,
        ax=axes,
        location="bottom",
        fraction=0.02,
        aspect=30,
        pad=0.01,
        shrink=0.5,
        ticks=[-1, 0, 1],
    )
    bar.ax.set_xticklabels(["against the class", "0", "for the class"], fontsize=7)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.set_label(text, size=7)


def heading(name: str) -> str:
    """A name over a picture: settings in parentheses on their own line; a long word may end behind one of its signs."""
    lines = [line for part in name.replace(" (", "\n(").split("\n") for line in _lines(part)]
    return "\n".join(lines)


def _lines(text: str) -> list[str]:
    pieces = [
        piece
        for word in re.findall(r"\S+ ?", text)
        for piece in (re.findall(_PIECES, word)[:-1] if len(word) > _ACROSS else [word])
    ]
    lines = [""]
    for piece in pieces:
        if lines[-1] and len(f"{lines[-1]}{piece}".rstrip()) > _ACROSS:
            lines.append("")
        lines[-1] += piece
    return [part for line in lines for part in textwrap.wrap(line, _ACROSS)]


def picture(axis: Axes, image: NDArray[Any]) -> None:
    """An image of shape (C, H, W) in [0, 1]."""
    shown = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0)
    axis.imshow(np.clip(shown, 0, 1), cmap="gray", vmin=0, vmax=1)


def saliency_map(axis: Axes, values: NDArray[Any]) -> None:
    """A signed map of shape (H, W), scaled to the 99.5th percentile of its size."""
    finite = np.nan_to_num(values.astype(np.float64))
    size = float(np.percentile(np.abs(finite), _PERCENTILE)) or 1.0
    axis.imshow(finite / size, cmap=_COLOURS, vmin=-1, vmax=1)


def verdict(axis: Axes, name: str, wrong: bool) -> None:
    """The name of a class below a picture."""
    text = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
    # wrong ones differ by sign and weight too, not by colour alone
    axis.text(
        *(0.5, -0.03, f"× {text}" if wrong else text),
        transform=axis.transAxes,
        ha="center",
        va="top",
        fontsize=6,
        color="#b03000" if wrong else "#444444",
        weight="bold" if wrong else "normal",
    )
