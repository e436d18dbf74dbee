"""A table of a data set: rows are trainings, columns measures, seeds combined."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from benchmark.report.best import with_best
from benchmark.report.caption import caption
from benchmark.report.cells import ABSENT, Cell, Column, cell, number_format
from benchmark.report.chosen import chosen, grouped, main_words
from benchmark.report.columns import NAMES
from benchmark.report.images import Scores, by_measure
from benchmark.report.names import row_names
from benchmark.report.origin import data_used
from benchmark.report.pooling import MEASURE, in_percent, pooled
from benchmark.report.read import ReportError, Run

DAGGER = "reconstruction: the method was built from its abstract, its formula is not published."
_TITLES = {
    "main": "Robustness and interpretability",
    "all": "Robustness and interpretability",
    "robustness": "Robustness",
    "fidelity": "Fidelity of attributions",
    "alignment": "Alignment of attributions",
    "sharpness": "Sharpness of attributions",
}

Key = tuple[str, ...]
"""A column of the records, in the order of `MEASURE`."""


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
    name: str = "main"
    """The set of columns: "main", "robustness", ..., or what a suite calls its own."""


def main_tables(run: Run) -> list[Table]:
    """The short table of every data set of a run that has records."""
    return [
        table(part, "main", main_words(part.records))
        for part in run.by_dataset().values()
        if len(part.records)
    ]


def main_table(records: pd.DataFrame) -> Table:
    """The short table of one data set's records alone."""
    return table(Run(records), "main", main_words(records))


def table(run: Run, name: str, words: Sequence[str], title: str = "") -> Table:
    """The columns that `words` choose (benchmark/report/columns.py) of a run of one data set."""
    names = list(dict.fromkeys(run.records["dataset"]))
    if len(names) != 1:
        raise ReportError(f"a table is of one data set, these records are of {names or 'none'}")
    keys, absent = chosen(run.records, words)
    if (
        name in NAMES
    ):  # a suite's own columns stand in the order of its words, and each is expected to be there
        keys, absent = grouped(keys), []
    pool = _pool(run.records, keys)
    columns = _columns(run.records, pool, keys)
    scores = by_measure(_needed(run.scores, keys))
    # all trainings are rows, also those whose every cell is missing
    rows = _marked(_rows(run.records, pool, columns, scores))
    cells = [each for row in rows for each in row.cells]
    refits = any(own.shape[1] > 1 for key in keys for own in scores.get(_sampled(key), {}).values())
    text = caption(
        run.records, list(columns.values()), cells, data_used(run.manifest, names[0]), refits
    )
    return Table(
        names[0],
        f"{title or _TITLES.get(name, name)} on {names[0]}",
        f"{text} Not in this run: {', '.join(absent)}." if absent else text,
        tuple(columns.values()),
        tuple(rows),
        _footnotes(rows),
        name,
    )


def _sampled(key: Key) -> Key:
    """The column as the samples name it."""
    _, metric, _, params, threat, measure = key
    return metric, params, threat, measure


def _needed(scores: pd.DataFrame, keys: Sequence[Key]) -> pd.DataFrame:
    """The samples of the metrics that are shown."""
    if scores.empty:
        return scores
    metrics, measures = {key[1] for key in keys}, {key[-1] for key in keys}
    return scores[scores["metric"].isin(metrics) & scores["measure"].isin(measures)]


def _columns(records: pd.DataFrame, pool: pd.DataFrame, keys: Sequence[Key]) -> dict[Key, Column]:
    """Key -> column, in the order of the keys."""
    groups = {tuple(map(str, key)): group for key, group in pool.groupby(MEASURE, sort=False)}
    cards = {
        tuple(str(line[name]) for name in MEASURE): line
        for line in records[records["at"].isna()].drop_duplicates(MEASURE).to_dict("records")
    }
    headings = [(key[2], key[4], key[5]) for key in keys]
    return {
        key: _column(key, groups[key], cards[key], headings.count((key[2], key[4], key[5])) > 1)
        for key in keys
    }


def _column(key: Key, cells: pd.DataFrame, card: Mapping[Hashable, Any], ambiguous: bool) -> Column:
    family, metric, label, params, threat, measure = key
    scope = str(card["range"])
    scale, spec = (
        (100.0, ".1f")
        if in_percent(family, scope)
        else number_format(cells["value"], cells["high"] - cells["value"])
    )
    heading = label if card["headline"] else f"{label} {measure.replace('_', ' ')}"
    # the label ought to tell two settings apart; where it does not, the settings themselves do
    if ambiguous:
        heading = f"{heading} {params or measure}"
    return Column(
        family, heading, threat, measure, str(card["direction"]), scale, spec, scope, metric, params
    )


def _pool(records: pd.DataFrame, keys: Sequence[Key]) -> pd.DataFrame:
    """The estimates of the columns, a row a model."""
    whole = records[records["at"].isna()]
    of = pd.MultiIndex.from_frame(whole[MEASURE])
    return pooled(whole[of.isin(list(keys))], ["model", "trainer", *MEASURE])


def _rows(
    records: pd.DataFrame,
    pool: pd.DataFrame,
    columns: Mapping[Key, Column],
    scores: Mapping[Key, Scores],
) -> list[Row]:
    found = {
        (row["model"], row["trainer"], *(row[key] for key in MEASURE)): row
        for row in pool.to_dict("records")
    }
    names = row_names(records)
    by_column = []
    for key, column in columns.items():
        cells = [
            cell(found[(*row, *key)], column) if (*row, *key) in found else ABSENT for row in names
        ]
        own = scores.get(_sampled(key), {})
        by_column.append(with_best(cells, column, [own.get(row) for row in names]))
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
