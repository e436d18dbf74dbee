"""What is bold: the best of a column and all rows near it that are not significantly worse, if any row is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmark.report.tables.cells import Cell, Column
from benchmark.statistics.paired import SIGNIFICANT, differences, holm

INTERVAL = "interval"

Scores = NDArray[np.float64] | None
"""Of one row: (seeds, refits, n), None where the scores of single images are not kept."""


def with_best(cells: Sequence[Cell], column: Column, scores: Sequence[Scores] = ()) -> list[Cell]:
    """The cells of a column, the best flagged with all that is not significantly worse; none where no row is.

    Each row is compared with the best on the images that both were judged on (benchmark/statistics/paired.py); p below
    0.05, and worse on these images, is significantly worse. Which row is the best these images say, too, so that p is
    corrected for all pairs of the column (Holm's steps times k / 2 of k rows). Without scores of single images a row is
    not clearly worse whose interval holds the best's mean. Either way its mean has to lie within the interval of the
    best: that its own spread is too large to tell it from the best makes no row a good one. What reads the same is bold
    together, and so is a row that is no worse than the best on the images that both have scores of.
    """
    known = [i for i, each in enumerate(cells) if not np.isnan(each.mean)]
    if len(known) < 2 or not column.direction:
        return list(cells)
    sign = 1 if column.direction == "higher" else -1
    top = max(known, key=lambda i: sign * cells[i].mean)
    rest = [i for i in known if i != top]
    compared = list(cells)
    for i, made in zip(rest, _compared(cells, top, rest, scores), strict=True):
        compared[i] = made
    if not any(_worse(compared[i], compared[top], sign) for i in rest):
        return compared
    flags = [_holds(each, compared[top], sign) for each in compared]
    return [replace(each, best=flag) for each, flag in zip(compared, flags, strict=True)]


def _compared(
    cells: Sequence[Cell], top: int, rest: Sequence[int], scores: Sequence[Scores]
) -> list[Cell]:
    """The rest of a column with its p values and how they were found."""
    best = scores[top] if scores else None
    tested = {i: own for i in rest if scores and (own := scores[i]) is not None}
    found = {}
    if best is not None and tested:
        found = dict(zip(tested, differences(list(tested.values()), best), strict=True))
    pairs_per_row = (len(tested) + 1) / 2
    steps = np.minimum(holm([each.p for each in found.values()]) * pairs_per_row, 1.0)
    corrected = dict(zip(found, steps, strict=True))
    return [
        replace(cells[i], p=float(corrected[i]), compared=found[i].test, gap=found[i].value)
        if i in found and found[i].test
        else replace(cells[i], compared=INTERVAL if np.isfinite(cells[i].low) else "")
        for i in rest
    ]


def _holds(cell: Cell, best: Cell, sign: int) -> bool:
    if np.isnan(cell.mean) or _worse(cell, best, sign):
        return False
    near = not np.isfinite(best.low) or best.low <= cell.mean <= best.high
    return near or cell.shown == best.shown or cell.gap * sign >= 0


def _worse(cell: Cell, best: Cell, sign: int) -> bool:
    """Significantly, or clearly where there are no scores of single images."""
    if cell.shown == best.shown:
        return False
    if np.isfinite(cell.p):
        # the best's mean may be ahead for want of images that this row has a score of
        return bool(cell.p < SIGNIFICANT and cell.gap * sign < 0)
    return not cell.low <= best.mean <= cell.high
