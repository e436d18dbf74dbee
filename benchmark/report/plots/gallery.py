"""The saliency gallery: the same images, and what each model's attribution marks in them."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmark.report.names import file_stem, norm_sign, shortened
from benchmark.report.read import Picture, Run
from benchmark.report.series import marked_names

_CELL = 0.82
"""Inches of a picture."""

_ACROSS = 8
"""Models side by side; more are drawn in further bands below."""

_ROWS = 9
"""Images of a figure, over all bands."""

_PERCENTILE = 99.5
_COLOURS = "RdBu_r"

Arrays = dict[str, NDArray[Any]]


def gallery(run: Run) -> dict[str, Figure]:
    """One figure a data set and attribution: rows are images, columns the input and the models (first seed)."""
    return {
        file_stem("gallery", name, attribution): _figure(attribution, maps)
        for name, part in run.by_dataset().items()
        for attribution, maps in _by_attribution(part).items()
    }


def _by_attribution(run: Run) -> dict[str, dict[str, Arrays]]:
    """Attribution -> {row name: arrays with that map}."""
    names = marked_names(run.records)
    first: dict[tuple[str, str], Picture] = {}
    for picture in sorted(run.gallery, key=lambda p: p.seed):
        first.setdefault((picture.model, picture.trainer), picture)
    # in the order of the tables; a model without a record still shows, under its trainer's name
    keys = [key for key in names if key in first] + [key for key in first if key not in names]
    loaded = {names.get(key, f"{key[1]}, {key[0]}"): first[key].arrays() for key in keys}
    found: dict[str, dict[str, Arrays]] = {}
    for name, arrays in loaded.items():
        for entry in sorted(arrays):
            if entry.startswith("map/"):
                found.setdefault(entry.removeprefix("map/"), {})[name] = arrays
    return found


def _figure(attribution: str, models: dict[str, Arrays]) -> Figure:
    names = list(models)
    wide = -(-len(names) // -(-len(names) // _ACROSS))  # 9 models are 5 and 4, not 8 and 1
    bands = [names[i : i + wide] for i in range(0, len(names), wide)]
    # several bands show fewer images each, so that the figure stays about a page
    images = min(max(3, _ROWS // len(bands)), len(next(iter(models.values()))["images"]))
    across = 1 + max(len(band) for band in bands)
    figure = Figure(
        figsize=(_CELL * across, (_CELL + 0.16) * images * len(bands) + 0.4 * len(bands) + 0.45)
    )
    axes = figure.subplots(images * len(bands), across, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    short = {name: norm_sign(cut) for name, cut in shortened(names, 42).items()}
    for b, band in enumerate(bands):
        _band(
            axes[b * images : (b + 1) * images],
            {name: models[name] for name in band},
            attribution,
            short,
        )
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
    bar.set_label(f"{attribution}, each map scaled to the 99.5th percentile of its size", size=7)
    return figure


def _band(
    axes: NDArray[Any], models: dict[str, Arrays], attribution: str, short: dict[str, str]
) -> None:
    inputs = next(iter(models.values()))
    for row, axis in enumerate(axes[:, 0]):
        _picture(axis, inputs["images"][row])
        _class(axis, f"true {inputs['labels'][row]}", wrong=False)
    axes[0, 0].set_title("input", fontsize=7)
    for column, (name, arrays) in enumerate(models.items(), start=1):
        axes[0, column].set_title(_heading(short[name]), fontsize=7)
        for row, axis in enumerate(axes[:, column]):
            _map(axis, arrays[f"map/{attribution}"][row])
            predicted = arrays["predicted"][row]
            _class(axis, f"pred. {predicted}", wrong=bool(predicted != arrays["labels"][row]))


def _heading(name: str) -> str:
    """A name over a picture: settings in parentheses on their own line."""
    parts = name.replace(" (", "\n(").split("\n")
    return "\n".join(line for part in parts for line in textwrap.wrap(part, 14))


def _picture(axis: Axes, image: NDArray[Any]) -> None:
    shown = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0)
    axis.imshow(np.clip(shown, 0, 1), cmap="gray", vmin=0, vmax=1)


def _map(axis: Axes, values: NDArray[Any]) -> None:
    finite = np.nan_to_num(values.astype(np.float64))
    size = float(np.percentile(np.abs(finite), _PERCENTILE)) or 1.0
    axis.imshow(finite / size, cmap=_COLOURS, vmin=-1, vmax=1)


def _class(axis: Axes, text: str, wrong: bool) -> None:
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
