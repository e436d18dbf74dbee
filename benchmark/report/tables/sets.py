"""The tables of a run: the short one, a set of columns a family, the suite's own, what the trainings cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmark.cards import nearest
from benchmark.report.read import ReportError, Run
from benchmark.report.tables.chosen import EVERYTHING, main_words
from benchmark.report.tables.columns import NAMES, SETS
from benchmark.report.tables.cost import cost_tables
from benchmark.report.tables.table import Table, table


def names(run: Run) -> list[str]:
    """The tables of measures that can be asked for, the suite's own last."""
    return [*NAMES, *_own(run)]


def check_name(name: str, valid: Sequence[str]) -> None:
    """ReportError unless it is one of the valid ones."""
    if name not in valid:
        raise ReportError(f"--table {name!r}: no such table{nearest(name, list(valid))}")


def tables(run: Run, name: str) -> list[Table]:
    """The table of a name for every data set that has something to show in it; ReportError for a name that is none.

    The short one and the suite's own are there without columns, too: their notes say what is not.
    """
    own = _own(run)
    check_name(name, names(run))
    if name == "cost":
        return cost_tables(run.trainings)
    made = [
        table(part, name, _words(part, name), own.get(name, {}).get("title", ""))
        for part in run.by_dataset().values()
        if len(part.records)
    ]
    return [each for each in made if each.columns or name in ("main", *own)]


def all_tables(run: Run) -> Iterator[Table]:
    """What a report holds: of the sets by family those that show more than the short table does."""
    short = tables(run, "main")
    yield from short
    shown = {(each.dataset, column) for each in short for column in each.columns}
    for name in SETS:
        for each in tables(run, name):
            if any((each.dataset, column) not in shown for column in each.columns):
                yield each
    for name in (*_own(run), "cost"):
        yield from tables(run, name)


def wanted(run: Run, name: str) -> Sequence[str]:
    """The words that choose the columns of a table; none of one that takes what there is."""
    found: Sequence[str] = _own(run).get(name, {}).get("columns") or SETS.get(name, ())
    return found


def _words(run: Run, name: str) -> Sequence[str]:
    return main_words(run.records) if name == "main" else wanted(run, name) or EVERYTHING


def _own(run: Run) -> Mapping[str, Any]:
    """The suite's own tables."""
    return run.definition.get("tables") or {}
