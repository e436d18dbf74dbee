"""The tables of a run: the short one, a set of columns a family, the suite's own, what the trainings cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmark.cards import nearest
from benchmark.report.chosen import EVERYTHING, main_words
from benchmark.report.columns import NAMES, SETS
from benchmark.report.cost import cost_tables
from benchmark.report.formats.latex import latex
from benchmark.report.formats.markdown import markdown
from benchmark.report.formats.tidy_csv import tidy_csv
from benchmark.report.formats.tidy_json import tidy_json
from benchmark.report.read import ReportError, Run
from benchmark.report.table import Table, table

_FORMATS = {"markdown": markdown, "latex": latex, "csv": tidy_csv}


def tables(run: Run, name: str) -> list[Table]:
    """The table of a name for every data set that has something to show in it; ReportError for a name that is none."""
    own = run.definition.get("tables") or {}
    if name not in (*NAMES, *own):
        raise ReportError(f"--table {name!r}: no such table{nearest(name, [*NAMES, *own])}")
    if name == "cost":
        return cost_tables(run.trainings)
    made = [
        table(part, name, _words(part, name, own), own.get(name, {}).get("title", ""))
        for part in run.by_dataset().values()
        if len(part.records)
    ]
    return [each for each in made if each.columns or name == "main"]


def all_tables(run: Run) -> Iterator[Table]:
    """What a report holds: of the sets by family those that show more than the short table does."""
    short = tables(run, "main")
    yield from short
    shown = {(each.dataset, column) for each in short for column in each.columns}
    for name in SETS:
        for each in tables(run, name):
            if any((each.dataset, column) not in shown for column in each.columns):
                yield each
    for name in (*(run.definition.get("tables") or {}), "cost"):
        yield from tables(run, name)


def shown(run: Run, name: str, as_format: str) -> str:
    """The tables of a name as text: "markdown", "latex", "csv" or "json" (a list where there are several data sets)."""
    found = tables(run, name)
    if as_format == "json":
        return tidy_json(found[0]) if len(found) == 1 else f"[{','.join(map(tidy_json, found))}]\n"
    return "\n".join(_FORMATS[as_format](each) for each in found)


def _words(run: Run, name: str, own: Mapping[str, Any]) -> Sequence[str]:
    if name == "main":
        return main_words(run.records)
    words: Sequence[str] = own[name]["columns"] if name in own else SETS.get(name, EVERYTHING)
    return words
