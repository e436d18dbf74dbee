"""The tables of a report as files: every table in every format, under names that tell it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.report import health, published, trends
from benchmark.report.formats.grid_tex import grid_latex
from benchmark.report.formats.latex import WIDTH, document, latex, latex_document
from benchmark.report.formats.tidy_csv import tidy_csv
from benchmark.report.formats.tidy_json import tidy_json
from benchmark.report.grid import Grid
from benchmark.report.names import file_stem
from benchmark.report.read import Run
from benchmark.report.tables.table import Table

ENDINGS = (".tex", ".csv", ".json")
PREFIXES = ("table-", "cost-", "health-", "published-", "trends-")
"""What the files of tables begin with."""


def table_files(run: Run, tables: Sequence[Table], textwidth: float = WIDTH) -> dict[str, bytes]:
    """File name -> content: the tables, the findings on the models' health and the published numbers.

    `textwidth`: the points that the .tex files may fill; the documents beside them have their own.
    """
    files: dict[str, str] = {}
    for table in tables:
        stem = _stem(table)
        files |= {
            f"{stem}.tex": latex(table, textwidth),
            f"{stem}-standalone.tex": latex_document(table),
            f"{stem}.csv": tidy_csv(table),
            f"{stem}.json": tidy_json(table),
        }
    for grid in grids(run):
        stem = file_stem(grid.name, grid.dataset)
        files |= {
            f"{stem}.tex": grid_latex(grid, textwidth),
            f"{stem}-standalone.tex": document(grid_latex(grid)),
        }
    files |= {
        f"{file_stem('health', name)}.csv": text for name, text in health.tidy_csv(run).items()
    }
    return {name: content.encode() for name, content in files.items()}


def grids(run: Run) -> list[Grid]:
    """What is not a measure of every model."""
    return trends.grids(run) + published.grids(run) + health.grids(run)


def _stem(table: Table) -> str:
    """table-DATASET for the short table, table-NAME-DATASET for the others, cost-DATASET."""
    kinds = {"main": ["table"], "cost": ["cost"]}
    return file_stem(*kinds.get(table.name, ["table", table.name]), table.dataset)
