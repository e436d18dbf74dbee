"""Training curves: loss and validation accuracy over the epochs, the mean over seeds; rings: the epoch that is kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmark.report.drawing.curves import REST, legend, told
from benchmark.report.drawing.style import Look, looks, percent
from benchmark.report.names import file_stem
from benchmark.report.read import Run
from benchmark.report.series import marked_names

_PANELS = {
    "loss": "training loss, each method's own",
    "validation": "validation accuracy, clean and PGD-10",
}
_EVERY = 8
"""About how many markers a curve carries."""


def training_curves(run: Run) -> dict[str, Figure]:
    """One figure a data set: a panel of the loss and one of what chose the checkpoint."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {
        file_stem("training-curves", name): figure for name, figure in figures.items() if figure
    }


def _figure(run: Run) -> Figure | None:
    epochs = _named(run.epochs, run)
    shown = {name: title for name, title in _PANELS.items() if _several(epochs, name)}
    if not shown:
        return None
    kept = _named(run.trainings, run)
    # the mean of the last panel's quantity, as in the other plots of curves
    heights = epochs.groupby("row", sort=False)[list(shown)[-1]].mean()
    look = told(heights, looks(marked_names(run.records).values()))
    figure = Figure(figsize=(max(3.3 * len(shown), 3.8), 2.6))
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (name, title) in zip(axes, shown.items(), strict=True):
        for row, log in epochs.groupby("row", sort=False):
            _curve(axis, log, name, look.get(str(row)))
            if str(row) in look:
                _ring(axis, kept[kept["row"] == row], name, look[str(row)])
        axis.set_xlabel("epoch")
        axis.set_ylabel(title)
    if "loss" in shown:
        axes[0].set_yscale("log")
        axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[0].yaxis.set_minor_formatter(NullFormatter())
    if "validation" in shown:
        axes[-1].yaxis.set_major_formatter(percent)
    title = "mean over seeds; shaded: from the least to the most of them; rings: the kept epochs"
    legend(figure, look, len(heights), title)
    return figure


def _named(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    """The rows of models that the tables have, with the row's name."""
    names = marked_names(run.records)
    if table.empty:
        return pd.DataFrame(columns=["row", "epoch", *_PANELS])
    keys = list(zip(table["model"], table["trainer"], strict=True))
    known = table[[key in names for key in keys]]
    return known.assign(row=[names[key] for key in keys if key in names])


def _several(epochs: pd.DataFrame, name: str) -> bool:
    """Whether there is a curve: finite values at two epochs at least."""
    return epochs.loc[np.isfinite(epochs[name].astype(float)), "epoch"].nunique() > 1


def _curve(axis: Axes, log: pd.DataFrame, name: str, look: Look | None) -> None:
    seeds = log.groupby("epoch")[name].agg(["mean", "min", "max"])
    x = seeds.index.to_numpy(float) + 1
    if look is None:
        axis.plot(x, seeds["mean"], **REST)
        return
    axis.plot(
        *(x, seeds["mean"]),
        color=look.color, ls=look.line, marker=look.marker, ms=3.2, lw=1.1,
        markevery=max(1, len(x) // _EVERY), zorder=3,
    )  # fmt: skip
    if log["seed"].nunique() > 1:
        axis.fill_between(x, seeds["min"], seeds["max"], color=look.color, alpha=0.12, lw=0)


def _ring(axis: Axes, kept: pd.DataFrame, name: str, look: Look) -> None:
    if len(kept):
        axis.plot(
            *(kept["kept"] + 1, kept[name]),
            ls="", marker="o", ms=7, mfc="none", mec=look.color, mew=0.9, zorder=4,
        )  # fmt: skip
