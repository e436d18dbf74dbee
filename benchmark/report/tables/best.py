"""What is bold: the best of a column and all rows near it that are not significantly worse."""

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
    """The cells of a column, the best flagged with all that is not significantly worse; none where that is every row.

    Each row is compared with the best on the images that both were judged on (benchmark/statistics/paired.py), and p
    corrected for as many comparisons (Holm); below 0.05, and worse on these images, is significantly worse. Without
    scores of single images a row is not clearly worse whose interval holds the best's mean. Either way its mean has to
    lie within the interval of the best: that its own spread is too large to tell it from the best makes no row a good
    one. What reads the same is bold together, and so is a row that is no worse than the best on the images that both
    have scores of.
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
    flags = [_holds(each, compared[top], sign) for each in compared]
    if sum(flags) == len(known):
        return compared
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
    corrected = dict(zip(found, holm([each.p for each in found.values()]), strict=True))
    return [
        replace(cells[i], p=float(corrected[i]), compared=found[i].test, gap=found[i].value)
        if i in found and found[i].test
        else replace(cells[i], compared=INTERVAL if np.isfinite(cells[i].low) else "")
        for i in rest
    ]


def _holds(cell: Cell, best: Cell, sign: int) -> bool:
    if cell is best or (cell.shown == best.shown and not np.isnan(cell.mean)):
        return True
    if cell.gap * sign >= 0:
        return True  # the best's mean is ahead for want of images that this one has a score of
    if np.isfinite(best.low) and not best.low <= cell.mean <= best.high:
        return False
    return cell.p >= SIGNIFICANT if np.isfinite(cell.p) else cell.low <= best.mean <= cell.high
