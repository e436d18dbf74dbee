"""How far from the image manifold adversarial examples lie: densities over the images, unchanged images in grey."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from benchmark.report.drawing.curves import REST, legend, told
from benchmark.report.drawing.style import GREY, Look, looks
from benchmark.report.names import file_stem
from benchmark.report.read import Run
from benchmark.report.series import labelled, marked_names

_METRIC, _MOVED, _CLEAN = "reconstruction_distance", "distance", "clean_distance"
_GRID = 200
_FEWEST = 5
"""Images below which a density says nothing."""


def manifold_distances(run: Run) -> dict[str, Figure]:
    """One figure a data set, one panel a setting of the distance, one line a training."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {
        file_stem("manifold-distances", name): figure for name, figure in figures.items() if figure
    }


def _figure(run: Run) -> Figure | None:
    moved, clean = _images(run, _MOVED), _images(run, _CLEAN)
    if moved.empty:
        return None
    heights = moved.groupby("row", sort=False)["value"].mean()
    look = told(heights, looks(marked_names(run.records).values()))
    settings = list(moved["label"].unique())
    figure = Figure(figsize=(max(3.3 * len(settings), 4.2), 2.5))
    axes = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
    for axis, label in zip(axes, settings, strict=True):
        _panel(axis, moved[moved["label"] == label], clean[clean["label"] == label], look)
        axis.set_title(label)
        axis.set_xlabel("normalised distance")
    axes[0].set_ylabel("density")
    unchanged = {"unchanged images": Line2D([], [], color=GREY, lw=5, alpha=0.4)}
    title = "Gaussian kernels, Scott's bandwidth; markers: the means"
    legend(figure, look, len(heights), title, unchanged)
    return figure


def _images(run: Run, measure: str) -> pd.DataFrame:
    """row, label, image, value: the mean over seeds and refits of every image."""
    samples = run.samples(_METRIC, measure)
    keys = ["row", "label", "image"]
    if samples.empty:
        return pd.DataFrame(columns=[*keys, "value"])
    names = marked_names(run.records)
    own = labelled(run.records[run.records["metric"] == _METRIC])
    labels = dict(zip(own["params"], own["label"], strict=True))
    keyed = list(zip(samples["model"], samples["trainer"], strict=True))
    known = samples[[key in names for key in keyed]].assign(
        row=[names[key] for key in keyed if key in names]
    )
    known = known.assign(label=known["params"].astype(str).map(labels).astype(object))
    finite = known[np.isfinite(known["value"])].dropna(subset=["label"])
    return finite.groupby(keys, sort=False, observed=True)["value"].mean().reset_index()


def _panel(axis: Axes, moved: pd.DataFrame, clean: pd.DataFrame, look: dict[str, Look]) -> None:
    values = np.concatenate([moved["value"], clean["value"]])
    low, high = np.percentile(values, [0.5, 99.5])
    grid = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), _GRID)
    # the unchanged images are the same for every model
    heights = _density(clean.groupby("image")["value"].mean().to_numpy(float), grid)
    if heights is not None:
        axis.fill_between(grid, 0, heights, color=GREY, alpha=0.3, lw=0)
    for row, images in moved.groupby("row", sort=False):
        own, style = images["value"].to_numpy(float), look.get(str(row))
        heights = _density(own, grid)
        if heights is None:
            continue
        if style is None:
            axis.plot(grid, heights, **REST)
            continue
        axis.plot(grid, heights, color=style.color, ls=style.line, lw=1.2, zorder=3)
        at = own.mean()
        top = np.interp(at, grid, heights)
        axis.plot(at, top, color=style.color, marker=style.marker, ms=5, ls="", zorder=4)
    axis.set_ylim(bottom=0)


def _density(values: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The kernel estimate on a grid; none for too few images, or for images that are all alike."""
    if len(values) < _FEWEST or np.ptp(values) == 0:
        return None
    return np.asarray(gaussian_kde(values)(grid))
