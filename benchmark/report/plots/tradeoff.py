"""The trade-off: clean and robust accuracy against interpretability, one point a training, its seeds faint."""

from __future__ import annotations

from matplotlib.figure import Figure

from benchmark.report.drawing.scatter import scatter
from benchmark.report.drawing.style import looks
from benchmark.report.names import file_stem
from benchmark.report.quantities import clean_accuracy, interpretability, robust_accuracy
from benchmark.report.read import Run
from benchmark.report.series import named


def tradeoff(run: Run) -> dict[str, Figure]:
    """One figure a data set: a panel of clean and a panel of robust accuracy."""
    figures = {name: _figure(part) for name, part in run.by_dataset().items()}
    return {file_stem("tradeoff", name): figure for name, figure in figures.items() if figure}


def _figure(run: Run) -> Figure | None:
    records = named(run.records)
    y = interpretability(run)
    accuracies = [clean_accuracy(records), robust_accuracy(records)]
    pairs = [(x, y) for x in accuracies if x is not None and y is not None]
    return scatter(pairs, looks(records["row"].unique()))
