"""A table as tidy CSV: one line a cell, plain numbers in the unit of the table, for spreadsheets and pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from benchmark.report.tables.cells import Cell, Column
from benchmark.report.tables.table import Row, Table
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
    *("seeds", "seed_min", "seed_max", "seed_sd", "best", "p", "compared", "note"),
    *("control", "beaten", "p_control", "compared_control"),
)


def tidy_csv(table: Table) -> str:
    """The whole table; means and interval ends unrounded, empty where there is none.

    Below a cell stand its controls, a line each: `control` names it, `beaten` says whether the cell above is
    significantly better, and is empty where the measure claims nothing of the model.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(
        line
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        for line in _lines(_facts(table, row, column), column, cell)
    )
    return out.getvalue()


def _facts(table: Table, row: Row, column: Column) -> tuple[object, ...]:
    return (
        *(table.dataset, row.name, row.model, row.trainer, row.dagger),
        *(column.family, column.metric, column.params, column.label, column.threat),
        *(column.measure, column.direction, column.scope, column.unit),
    )


def _lines(facts: tuple[object, ...], column: Column, cell: Cell) -> Iterator[tuple[object, ...]]:
    yield (
        *facts,
        *(_number(v * column.scale) for v in (cell.mean, cell.low, cell.high)),
        *(_interval(cell), cell.n, cell.seeds),
        *(_number(v * column.scale) for v in (cell.seed_min, cell.seed_max, cell.seed_sd)),
        *(cell.best, _number(cell.p), cell.compared, cell.reason, "", "", "", ""),
    )
    for each in cell.beside:
        yield (
            *facts,
            *(_number(v * column.scale) for v in (each.mean, each.low, each.high)),
            *("", cell.n, cell.seeds, "", "", "", False, "", "", ""),
            *(
                each.control,
                "" if each.beaten is None else each.beaten,
                _number(each.p),
                each.compared,
            ),
        )


def _interval(cell: Cell) -> str:
    """What is in the interval; the seeds' own spread stands beside it (seed_min, seed_max, seed_sd) in any case."""
    if cell.low != cell.low:
        return ""
    return "images and seeds" if cell.seeds >= ENOUGH_SEEDS else "images"


def _number(value: float) -> str:
    # ten digits: percent of a fraction would otherwise end in binary dust (41.199999999999996)
    return format(value, ".10g") if value == value else ""
