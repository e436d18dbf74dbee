"""The main table of a data set: rows are trainings, columns the headline measures, seeds combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from benchmark.report.caption import caption
from benchmark.report.cells import ABSENT, Cell, Column, cell, number_format, with_best
from benchmark.report.names import family_order, row_names
from benchmark.report.origin import data_used
from benchmark.report.pooling import MEASURE, in_percent, pooled
from benchmark.report.read import ReportError, Run

DAGGER = "reconstruction: the method was built from its abstract, its formula is not published."


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


def main_tables(run: Run) -> list[Table]:
    """The table of every data set of a run that has records."""
    return [
        main_table(part.records, data_used(run.manifest, name))
        for name, part in run.by_dataset().items()
        if len(part.records)
    ]


def main_table(records: pd.DataFrame, data: str = "") -> Table:
    """The headline measures of one data set's records; `data` says in the caption which images were used."""
    names = list(dict.fromkeys(records["dataset"]))
    if len(names) != 1:
        raise ReportError(f"a table is of one data set, these records are of {names or 'none'}")
    chosen = records[records["headline"].astype(bool) & records["at"].isna()]
    pool = pooled(chosen, ["model", "trainer", *MEASURE])
    columns = _columns(chosen, pool)
    # all trainings are rows, also those whose every headline cell is missing
    rows = _marked(_rows(records, pool, columns))
    title = f"Robustness and interpretability on {names[0]}"
    return Table(
        names[0],
        title,
        caption(records, list(columns.values()), [c for row in rows for c in row.cells], data),
        tuple(columns.values()),
        tuple(rows),
        _footnotes(rows),
    )


def _columns(chosen: pd.DataFrame, pool: pd.DataFrame) -> dict[tuple[str, ...], Column]:
    """Key -> column, by family, then in the order of the records."""
    groups = {tuple(map(str, key)): group for key, group in pool.groupby(MEASURE, sort=False)}
    order = family_order([key[0] for key in groups])
    keys = sorted(groups, key=lambda key: order.index(key[0]))
    first = chosen.drop_duplicates(MEASURE)
    keyed = zip(
        first[MEASURE].itertuples(index=False), first["direction"], first["range"], strict=True
    )
    cards = {tuple(map(str, key)): (direction, scope) for key, direction, scope in keyed}
    headings = [(key[2], key[4]) for key in keys]
    return {
        key: _column(key, groups[key], *cards[key], headings.count((key[2], key[4])) > 1)
        for key in keys
    }


def _column(
    key: tuple[str, ...], cells: pd.DataFrame, direction: str, scope: str, ambiguous: bool
) -> Column:
    family, _, label, params, threat, measure = key
    scale, spec = (
        (100.0, ".1f")
        if in_percent(family, scope)
        else number_format(cells["value"], cells["high"] - cells["value"])
    )
    # the label ought to tell two settings apart; where it does not, the settings themselves do
    heading = f"{label} {params or measure}" if ambiguous else label
    return Column(family, heading, threat, measure, direction, scale, spec, scope)


def _rows(
    records: pd.DataFrame, pool: pd.DataFrame, columns: dict[tuple[str, ...], Column]
) -> list[Row]:
    found = {
        (row["model"], row["trainer"], *(row[key] for key in MEASURE)): row
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
    reasons = {c.mark: c.reason for row in rows for c in row.cells if c.mark}
    lines = [("†", DAGGER)] if any(row.dagger for row in rows) else []
    return tuple(lines + sorted(reasons.items(), key=lambda note: (len(note[0]), note[0])))
