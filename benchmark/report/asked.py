"""A table by its name: what `bench report --table`, a notebook and the pages show of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from rich.console import RenderableType

from benchmark.report.files import grids
from benchmark.report.formats.grid_tex import grid_latex
from benchmark.report.formats.grids import grid_markdown, grid_terminal
from benchmark.report.formats.latex import WIDTH, latex
from benchmark.report.formats.markdown import markdown
from benchmark.report.formats.terminal import terminal as table_terminal
from benchmark.report.formats.tidy_csv import tidy_csv
from benchmark.report.formats.tidy_json import tidy_json
from benchmark.report.grid import Grid
from benchmark.report.read import ReportError, Run
from benchmark.report.tables.columns import GRIDS
from benchmark.report.tables.sets import check_name, names, tables, wanted
from benchmark.report.tables.table import Table

Shown = TypeVar("Shown", Table, Grid)
_FORMATS: Mapping[str, Callable[[Table, float], str]] = {
    "markdown": lambda table, _: markdown(table),
    "latex": latex,
    "csv": lambda table, _: tidy_csv(table),
    "json": lambda table, _: tidy_json(table),
}
_GRID_FORMATS: Mapping[str, Callable[[Grid, float], str]] = {
    "markdown": lambda grid, _: grid_markdown(grid),
    "latex": grid_latex,
}


def terminal(run: Run, name: str, width: int) -> list[RenderableType]:
    """The tables of a name for rich's console; ReportError for one that is none, or that shows nothing."""
    check_name(name, [*names(run), *GRIDS])
    if name in GRIDS:
        return [part for grid in _grids(run, name) for part in grid_terminal(grid, width)]
    return [part for each in _tables(run, name) for part in table_terminal(each, width)]


def text(run: Run, name: str, as_format: str, textwidth: float = WIDTH) -> str:
    """The tables of a name as "markdown", "latex", "csv" or "json" (a list where there are several data sets).

    `textwidth`: the points of the text that LaTeX is for. ReportError for an unknown name or format.
    """
    check_name(name, [*names(run), *GRIDS])
    formats = _GRID_FORMATS if name in GRIDS else _FORMATS
    if as_format not in formats:
        valid = ", ".join(["terminal", *formats])
        raise ReportError(f"--table {name} --format {as_format}: valid formats are {valid}")
    if name in GRIDS:
        return "\n".join(_GRID_FORMATS[as_format](grid, textwidth) for grid in _grids(run, name))
    found = [_FORMATS[as_format](table, textwidth) for table in _tables(run, name)]
    if as_format == "json" and len(found) > 1:
        return f"[{','.join(found)}]\n"
    if as_format == "csv":
        # one header for all of them
        return "".join(found[:1] + [each.partition("\n")[2] for each in found[1:]])
    return "\n".join(found)


def _grids(run: Run, name: str) -> list[Grid]:
    return _some(run, name, [grid for grid in grids(run) if grid.name == name])


def _tables(run: Run, name: str) -> list[Table]:
    found = tables(run, name)
    # the short table says itself why it has no columns
    return _some(run, name, [each for each in found if each.columns or name == "main"])


def _some(run: Run, name: str, found: list[Shown]) -> list[Shown]:
    """What was found; ReportError that says what was looked for if it is nothing."""
    if not found:
        words = ", ".join(wanted(run, name))
        what = f"no column for {words}" if words else "nothing to show in it"
        raise ReportError(f"--table {name!r}: this run has {what}; it has {_filled(run)}")
    return found


def _filled(run: Run) -> str:
    """The names of the tables that show something of a run."""
    measured = [name for name in names(run) if any(each.columns for each in tables(run, name))]
    others = dict.fromkeys(grid.name for grid in grids(run))
    return ", ".join([*measured, *others]) or "no records yet"
