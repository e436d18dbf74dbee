"""A table of a data set: rows are trainings, columns measures, seeds combined."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from benchmark.report.names import (
    PRETRAINED,
    dataset_title,
    of_no_row,
    row_names,
    settings_in_words,
    threats_of,
)
from benchmark.report.origin import data_used
from benchmark.report.pooling import MEASURE, in_percent, pooled
from benchmark.report.read import ReportError, Run
from benchmark.report.tables.beside import Key, control, control_columns
from benchmark.report.tables.best import INTERVAL, Scores, with_best
from benchmark.report.tables.caption import caption
from benchmark.report.tables.cells import (
    ABSENT,
    LATER,
    NO_MORE,
    UNTRAINED,
    Cell,
    Column,
    cell,
    number_format,
)
from benchmark.report.tables.chosen import chosen, grouped
from benchmark.report.tables.columns import NAMES
from benchmark.report.tables.controls import ROW, Control, control_rows, with_controls
from benchmark.report.tables.images import Measure, by_measure
from benchmark.report.tables.images import Scores as ByModel

DAGGER = "reconstruction: the method was built from its abstract, its formula is not published."
_NO_MORE = (
    "not {better} than a control ({how}): it is not shown to say more than that control, and is not bold, even where "
    "it is the best of its column."
)
_TESTED = "p < 0.05 on the same images after Holm's correction over the column"
_APART = "{}the interval has to leave the control's mean out"
_TITLES = {
    "main": "Robustness and interpretability",
    "all": "Robustness and interpretability",
    "robustness": "Robustness",
    "fidelity": "Fidelity of attributions",
    "alignment": "Alignment of attributions",
    "sharpness": "Sharpness of attributions",
}


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
    """(mark, text): the daggers, then the reasons of missing cells."""
    name: str = "main"
    """The set of columns: "main", "robustness", ..., or what a suite calls its own."""
    controls: tuple[Row, ...] = ()
    """What maps that know nothing of the model score, a row a control; they have no model and no training."""

    @property
    def lines(self) -> tuple[Row, ...]:
        """All that is shown: the rows, and the controls below them."""
        return self.rows + self.controls

    def by_key(self) -> dict[tuple[str, ...], Cell]:
        """(model, training, metric, settings, threat, measure) -> cell, of the models' rows."""
        return {
            (row.model, row.trainer, column.metric, column.params, column.threat, column.measure): cell
            for row in self.rows
            for column, cell in zip(self.columns, row.cells, strict=True)
        }  # fmt: skip


def table(run: Run, name: str, words: Sequence[str], title: str = "") -> Table:
    """The columns that `words` choose (benchmark/report/tables/columns.py) of a run of one data set."""
    names = list(dict.fromkeys(run.records["dataset"]))
    if len(names) != 1:
        raise ReportError(f"a table is of one data set, these records are of {names or 'none'}")
    keys, absent = chosen(run.records, words)
    if (
        name in NAMES
    ):  # a suite's own columns stand in the order of its words, and each is expected to be there
        keys, absent = grouped(keys), []
    beside = control_columns(run.records, keys)
    needed = [*keys, *(key for own in beside.values() for key in own.values())]
    pool = _pool(run.records, needed)
    columns = _columns(run.records, pool, keys)
    scores = by_measure(_needed(run.scores, needed))
    # all trainings are rows, also those whose every cell is missing
    by_column, controls = _cells(run, pool, columns, scores, beside)
    rows = _marked(_rows(run.records, by_column))
    cells = [each for row in rows for each in row.cells]
    most = [own.shape[1] for key in keys for own in scores.get(_sampled(key), {}).values()]
    below = control_rows(tuple(columns.values()), controls)
    text = caption(
        run.records,
        list(columns.values()),
        cells,
        data_used(run.manifest, names[0]),
        max(most, default=1),
        below,
        run.spread,
        run.trainings,
    )
    return Table(
        names[0],
        f"{title or _TITLES.get(name, name)} on {dataset_title(names[0])}",
        " ".join([text, *_left_over(run, absent)]),
        tuple(columns.values()),
        tuple(rows),
        _footnotes(rows),
        name,
        tuple(Row(f"{ROW}{each}", "", "", False, shown) for each, shown in below.items()),
    )


def _left_over(run: Run, absent: Sequence[str]) -> list[str]:
    """What a suite asks of its tables in vain: columns that no metric has, names of rows that are not there."""
    unused = of_no_row(threats_of(run.records), run.definition.get("names") or {})
    parts = {"Not in this run": absent, "No row to be called by another name": unused}
    return [f"{what}: {', '.join(words)}." for what, words in parts.items() if words]


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
    if control(metric, params):
        heading = f"{heading} (control)"
    # the label ought to tell two settings apart; where it does not, the settings themselves do
    if ambiguous:
        heading = f"{heading} {settings_in_words(params)}".strip()
    return Column(
        family, heading, threat, measure, str(card["direction"]), scale, spec, scope, metric, params
    )


def _pool(records: pd.DataFrame, keys: Sequence[Key]) -> pd.DataFrame:
    """The estimates of the columns, a row a model."""
    whole = records[records["at"].isna()]
    of = pd.MultiIndex.from_frame(whole[MEASURE])
    return pooled(whole[of.isin(list(keys))], ["model", "trainer", *MEASURE])


def _cells(
    run: Run,
    pool: pd.DataFrame,
    columns: Mapping[Key, Column],
    scores: Mapping[Measure, ByModel],
    beside: Mapping[Key, Mapping[str, Key]],
) -> tuple[list[list[Cell]], list[dict[str, Control]]]:
    """The cells of every column, a cell a row, and its controls."""
    found = {
        (row["model"], row["trainer"], *(row[key] for key in MEASURE)): row
        for row in pool.to_dict("records")
    }
    names, untrained = row_names(run.records), _untrained(run.records)

    def absent(row: tuple[str, str], column: Column) -> Cell:
        return untrained.get(row, ABSENT) if column.family == "cost" else ABSENT

    def cells(key: Key, column: Column) -> list[Cell]:
        return [
            cell(found[(*row, *key)], column, run.spread)
            if (*row, *key) in found
            else absent(row, column)
            for row in names
        ]

    def images(key: Key) -> list[Scores]:
        own = scores.get(_sampled(key), {})
        return [own.get(row) for row in names]

    by_column, controls = [], []
    for key, column in columns.items():
        own = images(key)
        beaten = {
            name: Control(cells(other, column), images(other))
            for name, other in beside[key].items()
        }
        best = with_best(cells(key, column), column, own)
        by_column.append(with_controls(best, column, own, beaten))
        # a control with a column of its own is seen there
        controls.append({name: beaten[name] for name, k in beside[key].items() if k not in columns})
    return by_column, controls


def _untrained(records: pd.DataFrame) -> dict[tuple[str, str], Cell]:
    """(model, trainer) of trainings that came to no model, or not yet, as nothing was measured of it -> their cost."""
    measured = records[(records["family"] != "preflight") & (records["trainer"] != PRETRAINED)]
    return {
        (str(model), str(trainer)): LATER if own["note"].eq(LATER.reason).all() else UNTRAINED
        for (model, trainer), own in measured.groupby(["model", "trainer"])
        if own["value"].isna().all()
    }


def _rows(records: pd.DataFrame, by_column: Sequence[Sequence[Cell]]) -> list[Row]:
    names = row_names(records)
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
    if any(c.unbeaten for row in rows for c in row.cells):
        lines.append((NO_MORE, _no_more([c for row in rows for c in row.cells])))
    return tuple(lines + sorted(reasons.items(), key=lambda note: (len(note[0]), note[0])))


def _no_more(cells: Sequence[Cell]) -> str:
    """What ‡ means: whether a test decided, or the intervals for want of scores of single images."""
    ways = {each.compared for c in cells for each in c.beside if each.beaten is not None}
    how = [_TESTED] * bool(ways - {INTERVAL})
    how += [_APART.format("without scores of single images ")] * (INTERVAL in ways)
    better = "significantly better" if ways - {INTERVAL} else "clearly better"
    return _NO_MORE.format(better=better, how="; ".join(how))
