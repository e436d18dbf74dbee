"""A table as tidy CSV: one line a cell, plain numbers in the unit of the table, for spreadsheets and pandas."""

from __future__ import annotations

import csv
import io

from benchmark.report.cells import Cell, Column
from benchmark.report.table import Row, Table
from benchmark.statistics.intervals import ENOUGH_SEEDS

HEADER = (
    *(
        "dataset",
        "row",
        "model",
        "trainer",
        "reconstruction",
        "family",
        "metric",
        "params",
        "label",
    ),
    *("threat", "measure", "direction", "range", "unit", "mean", "low", "high", "interval", "n"),
    *("seeds", "seed_min", "seed_max", "best", "p", "compared", "note"),
)


def tidy_csv(table: Table) -> str:
    """The whole table; means and interval ends unrounded, empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(
        _line(table, row, column, cell)
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
    )
    return out.getvalue()


def _line(table: Table, row: Row, column: Column, cell: Cell) -> tuple[object, ...]:
    return (
        *(table.dataset, row.name, row.model, row.trainer, row.dagger),
        *(column.family, column.metric, column.params, column.label, column.threat),
        *(column.measure, column.direction, column.scope, column.unit),
        *(_number(v * column.scale) for v in (cell.mean, cell.low, cell.high)),
        *(_interval(cell), cell.n, cell.seeds),
        *(_number(v * column.scale) for v in (cell.seed_min, cell.seed_max)),
        *(cell.best, _number(cell.p), cell.compared, cell.reason),
    )


def _interval(cell: Cell) -> str:
    """What is in the interval; the seeds' own spread stands beside it (seed_min, seed_max) in any case."""
    if cell.low != cell.low:
        return ""
    return "images and seeds" if cell.seeds >= ENOUGH_SEEDS else "images"


def _number(value: float) -> str:
    # ten digits: percent of a fraction would otherwise end in binary dust (41.199999999999996)
    return format(value, ".10g") if value == value else ""
