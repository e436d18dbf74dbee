"""Models by attributions: what each attribution marks in one image, for each model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from matplotlib.figure import Figure

from benchmark.report.drawing.saliency import (
    CELL,
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

_MODELS = 12
"""Rows of a figure; a page takes no more."""


def attribution_grid(run: Run) -> dict[str, Figure]:
    """One figure a data set with several attributions: rows are models (first seed), columns attributions."""
    figures = {}
    for name, part in run.by_dataset().items():
        maps = by_attribution(part)
        if len(maps) > 1:
            figures[file_stem("attribution-grid", name)] = _figure(
                maps, partial(class_name, run.manifest, name)
            )
    return figures


def _figure(maps: dict[str, dict[str, Arrays]], named: Callable[[int], str]) -> Figure:
    models = {name: arrays for found in maps.values() for name, arrays in found.items()}
    shown = dict(list(models.items())[:_MODELS])
    figure = Figure(figsize=(CELL * (len(maps) + 1) + 0.9, (CELL + 0.14) * len(shown) + 0.6))
    axes = figure.subplots(len(shown), len(maps) + 1, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    short = {name: norm_sign(cut) for name, cut in shortened(models, 42).items()}
    for line, (name, arrays) in zip(axes, shown.items(), strict=True):
        picture(line[0], arrays["images"][0])
        predicted, label = int(arrays["predicted"][0]), int(arrays["labels"][0])
        verdict(line[0], named(predicted), wrong=predicted != label)
        line[0].text(
            -0.12, 0.5, heading(short[name]), transform=line[0].transAxes, ha="right", va="center",
            fontsize=7,
        )  # fmt: skip
        for axis, (attribution, found) in zip(line[1:], maps.items(), strict=True):
            # a map that this network cannot have leaves its place empty
            if name in found:
                saliency_map(axis, found[name][f"map/{attribution}"][0])
    for axis, title in zip(axes[0], ["input", *maps], strict=True):
        axis.set_title(heading(title.replace("_", " ")), fontsize=7)
    more = f"the first {len(shown)} of {len(models)} models; " if len(shown) < len(models) else ""
    text = f"{more}each map scaled to the 99.5th percentile of its size\nbelow: the predicted class (×: wrong)"
    colour_bar(figure, axes, text)
    return figure
