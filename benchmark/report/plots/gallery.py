"""The saliency gallery: the same images, and what each model's attribution marks in them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmark.report.drawing.saliency import (
    CELL,
    VERDICTS,
    Arrays,
    by_attribution,
    colour_bar,
    heading,
    picture,
    saliency_map,
    verdict,
)
from benchmark.report.names import file_stem, norm_sign, shortened
from benchmark.report.origin import class_name
from benchmark.report.read import Run

_ACROSS = 8
"""Models side by side; more are drawn in further bands below."""

_ROWS = 9
"""Images of a figure, over all bands."""


def gallery(run: Run) -> dict[str, Figure]:
    """One figure a data set and attribution: rows are images, columns the input and the models (first seed)."""
    return {
        file_stem("gallery", name, attribution): _figure(
            attribution, maps, partial(class_name, run.manifest, name)
        )
        for name, part in run.by_dataset().items()
        for attribution, maps in by_attribution(part).items()
    }


def _figure(attribution: str, models: dict[str, Arrays], named: Callable[[int], str]) -> Figure:
    names = list(models)
    wide = -(-len(names) // -(-len(names) // _ACROSS))  # 9 models are 5 and 4, not 8 and 1
    bands = [names[i : i + wide] for i in range(0, len(names), wide)]
    # several bands show fewer images each, so that the figure stays about a page
    images = min(max(3, _ROWS // len(bands)), len(next(iter(models.values()))["images"]))
    across = 1 + max(len(band) for band in bands)
    figure = Figure(
        figsize=(CELL * across, (CELL + 0.16) * images * len(bands) + 0.4 * len(bands) + 0.45)
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
            named,
        )
    text = f"{attribution}, each map scaled to the 99.5th percentile of its size\n{VERDICTS}"
    colour_bar(figure, axes, text)
    return figure


def _band(
    axes: NDArray[Any],
    models: dict[str, Arrays],
    attribution: str,
    short: dict[str, str],
    named: Callable[[int], str],
) -> None:
    inputs = next(iter(models.values()))
    for row, axis in enumerate(axes[:, 0]):
        picture(axis, inputs["images"][row])
        verdict(axis, named(int(inputs["labels"][row])), wrong=False)
    axes[0, 0].set_title("input", fontsize=7)
    for column, (name, arrays) in enumerate(models.items(), start=1):
        axes[0, column].set_title(heading(short[name]), fontsize=7)
        for row, axis in enumerate(axes[:, column]):
            saliency_map(axis, arrays[f"map/{attribution}"][row])
            predicted = int(arrays["predicted"][row])
            verdict(axis, named(predicted), wrong=bool(predicted != arrays["labels"][row]))
