"""The main table of a data set: rows are trainings, columns the headline measures, seeds combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from benchmark.report.cells import ABSENT, Cell, Column, cell, number_format, with_best
from benchmark.report.names import PRETRAINED, family_order, row_names
from benchmark.report.pooling import is_accuracy, pooled
from benchmark.report.read import ReportError

_COLUMN_KEYS = ["family", "metric", "label", "params", "threat", "measure"]


@dataclass(frozen=True)
class Row:
    """One training (or third-party model) with its cells, one a column."""

    name: str
    model: str
    trainer: str
    dagger: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """One table, complete: the renderers only place its text."""

    dataset: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[tuple[str, str], ...]
    """(mark, text): the dagger, then the reasons of missing cells."""


def main_table(records: pd.DataFrame) -> Table:
    """The headline measures of one data set's records."""
    names = list(dict.fromkeys(records["dataset"]))
    if len(names) != 1:
        raise ReportError(f"a table is of one data set, these records are of {names or 'none'}")
    chosen = records[records["headline"].astype(bool) & records["at"].isna()]
    pool = pooled(chosen, ["model", "trainer", *_COLUMN_KEYS])
    columns = _columns(chosen, pool)
    # all trainings are rows, also those whose every headline cell is missing
    rows = _marked(_rows(records, pool, columns))
    title = f"Robustness and interpretability on {names[0]}"
    return Table(
        names[0],
        title,
        _caption(records, columns, rows),
        tuple(columns.values()),
        tuple(rows),
        _footnotes(rows),
    )


def _columns(chosen: pd.DataFrame, pool: pd.DataFrame) -> dict[tuple[str, ...], Column]:
    """Key -> column, by family, then in the order of the records."""
    groups = {tuple(map(str, key)): group for key, group in pool.groupby(_COLUMN_KEYS, sort=False)}
    order = family_order([key[0] for key in groups])
    keys = sorted(groups, key=lambda key: order.index(key[0]))
    directions = chosen.drop_duplicates(_COLUMN_KEYS).set_index(_COLUMN_KEYS)["direction"].to_dict()
    headings = [(key[2], key[4]) for key in keys]
    return {
        key: _column(key, groups[key], directions[key], headings.count((key[2], key[4])) > 1)
        for key in keys
    }


def _column(key: tuple[str, ...], cells: pd.DataFrame, direction: str, ambiguous: bool) -> Column:
    family, _, label, params, threat, measure = key
    share = is_accuracy(measure, cells["value"])
    scale, spec = (
        (100.0, ".1f") if share else number_format(cells["value"], cells["high"] - cells["value"])
    )
    # the label ought to tell two settings apart; where it does not, the settings themselves do
    heading = f"{label} {params or measure}" if ambiguous else label
    return Column(family, heading, threat, measure, direction, scale, spec)


def _rows(
    records: pd.DataFrame, pool: pd.DataFrame, columns: dict[tuple[str, ...], Column]
) -> list[Row]:
    found = {
        (row["model"], row["trainer"], *(row[key] for key in _COLUMN_KEYS)): row
        for _, row in pool.iterrows()
    }
    names = row_names(records)
    by_column = [
        with_best(
            [
                cell(found[(*row, *key)], column) if (*row, *key) in found else ABSENT
                for row in names
            ],
            column,
        )
        for key, column in columns.items()
    ]
    daggers = records.groupby(["model", "trainer"])["reconstruction"].any().to_dict()
    return [
        Row(
            name,
            model,
            trainer,
            bool(daggers[model, trainer]),
            tuple(cells[i] for cells in by_column),
        )
        for i, ((model, trainer), name) in enumerate(names.items())
    ]


def _marked(rows: list[Row]) -> list[Row]:
    """Cells with a reason get its letter; equal reasons share one."""
    reasons = list(dict.fromkeys(c.reason for row in rows for c in row.cells if c.reason))
    marks = {"": ""} | {reason: _letter(i) for i, reason in enumerate(reasons)}
    return [
        replace(r, cells=tuple(replace(c, mark=marks[c.reason]) for c in r.cells)) for r in rows
    ]


def _letter(i: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    return (_letter(i // 26 - 1) if i >= 26 else "") + chr(ord("a") + i % 26)


def _footnotes(rows: Sequence[Row]) -> tuple[tuple[str, str], ...]:
    dagger = "reconstruction: the method was built from its abstract, its formula is not published."
    reasons = {c.mark: c.reason for row in rows for c in row.cells if c.mark}
    lines = [("†", dagger)] if any(row.dagger for row in rows) else []
    return tuple(lines + sorted(reasons.items(), key=lambda note: (len(note[0]), note[0])))


def _caption(
    records: pd.DataFrame, columns: dict[tuple[str, ...], Column], rows: Sequence[Row]
) -> str:
    cells = [c for row in rows for c in row.cells if c.seeds]
    if not cells:
        return "No measure of this data set has a value."
    own = list(dict.fromkeys(records.loc[records["trainer"] != PRETRAINED, "model"]))
    parts = [
        f"Architecture: {own[0]}." if len(own) == 1 else "",
        f"Mean over {_span([c.seeds for c in cells], 'seed')} "
        f"and {_span([c.n for c in cells if c.n], 'image')};",
        "± reaches to the farther end of the 95% interval.",
        "Accuracies in %." if any(column.unit for column in columns.values()) else "",
        "Arrows point to the better direction; the best of a column is bold, ties together."
        if any(column.direction for column in columns.values())
        else "",
    ]
    return " ".join(part for part in parts if part)


def _span(counts: Sequence[int], noun: str) -> str:
    if not counts:
        return f"an unknown number of {noun}s"
    low, high = min(counts), max(counts)
    number = str(low) if low == high else f"{low} to {high}"
    return f"{number} {noun}" + ("" if high == 1 else "s")
