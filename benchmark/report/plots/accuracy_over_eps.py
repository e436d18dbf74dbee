"""Accuracy against the size of the perturbation: an attack at several eps of a norm, clean accuracy at 0."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report.drawing.curves import draw_curves, key, legend, told
from benchmark.report.drawing.style import Look, looks, percent
from benchmark.report.names import file_stem, norm_sign
from benchmark.report.read import Run
from benchmark.report.series import attacked, clean, named, points, threat


def accuracy_over_eps(run: Run) -> dict[str, Figure]:
    """One figure a data set, one panel a norm, one line a training."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {
        file_stem("accuracy-over-eps", name): figure for name, figure in figures.items() if figure
    }


def _figure(run: Run) -> Figure | None:
    records = named(run.records)
    look = looks(records["row"].unique())
    panels = _panels(records)
    if not panels:
        return None
    every = pd.concat(panels.values())
    heights = every.groupby("row", sort=False)["value"].mean()
    shown = told(heights, look)
    figure = Figure(figsize=(max(3.0 * len(panels), 3.8), 2.5))
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, ((norm, label), lines) in zip(axes, panels.items(), strict=True):
        _panel(axis, lines, shown)
        axis.set_title(f"{label}, {norm_sign(norm + ' 0')[:-2]}")
    axes[0].set_ylabel("accuracy")
    axes[0].set_ylim(0, 1)
    legend(figure, shown, len(heights), key(every, "eps", shown))
    return figure


def _panels(records: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """(norm, label of the attack) -> its points, for norms with an attack at two radii at least (one is no curve)."""
    attacks = attacked(records)
    threats = attacks["threat"].map(threat)
    known = attacks[threats.notna()].assign(
        norm=[t[0] for t in threats.dropna()], eps=[t[1] for t in threats.dropna()]
    )
    start = points(clean(records)).assign(eps=0.0)
    panels = {}
    for norm, group in known.groupby("norm", sort=False):
        # of several attacks or settings, the one at the most eps makes the curve
        label = group.groupby("label", sort=False)["eps"].nunique().idxmax()
        lines = points(group[group["label"] == label], ["eps"])
        at_zero = start[
            start["row"].isin(lines["row"]) & ~start["row"].isin(lines[lines["eps"] == 0]["row"])
        ]
        if lines.loc[lines["eps"] > 0, "eps"].nunique() > 1:
            panels[str(norm), str(label)] = pd.concat([p for p in (at_zero, lines) if len(p)])
    return panels


def _panel(axis: Axes, lines: pd.DataFrame, look: dict[str, Look]) -> None:
    draw_curves(axis, lines, "eps", look)
    axis.set_xlabel("size of the perturbation ε")
    axis.margins(x=0.02)
    axis.yaxis.set_major_formatter(percent)
