"""Cost against quality: what a training takes, and the accuracy and interpretability that it gives."""

from __future__ import annotations

from matplotlib.figure import Figure

from benchmark.report.drawing.scatter import scatter
from benchmark.report.drawing.style import looks
from benchmark.report.names import file_stem
from benchmark.report.quantities import (
    interpretability,
    robust_accuracy,
    training_work,
)
from benchmark.report.read import Run
from benchmark.report.series import named


def cost_quality(run: Run) -> dict[str, Figure]:
    """One figure a data set: robust accuracy and interpretability over the operations of a training step."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {file_stem("cost-quality", name): figure for name, figure in figures.items() if figure}


def _figure(run: Run) -> Figure | None:
    records = named(run.records)
    x = training_work(records)
    qualities = [robust_accuracy(records), interpretability(run)]
    pairs = [(x, y) for y in qualities if x is not None and y is not None]
    return scatter(pairs, looks(records["row"].unique()))
