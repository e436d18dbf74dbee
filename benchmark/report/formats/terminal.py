"""A table for the terminal, as rich renderables which fit a width."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

from benchmark.report.names import shortened
from benchmark.report.tables.panels import Panel, groups, heading, name, panels, plain, shown_lines
from benchmark.report.tables.table import Table

_NAME = 36
"""Characters of a row's name; longer ones are cut in the middle (the files have them in full)."""


def terminal(table: Table, width: int = 100) -> list[RenderableType]:
    """The title, one grid a panel, and the notes. Text objects throughout: a name is never read as markup."""
    notes = "\n".join([table.caption, *(f"{mark} {text}" for mark, text in table.footnotes)])
    names = shortened([name(table, r) for r in range(len(table.lines))], _NAME)
    limit = max([len(short) for short in names.values()], default=0)
    grids = [_grid(table, panel, names) for panel in panels(table, width, gap=2, limit=limit)]
    return [Text(table.title, style="bold"), *grids, Text(notes, style="dim")]


def _grid(table: Table, panel: Panel, names: dict[str, str]) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    grid.add_column("", no_wrap=True)
    tops = [text for family, size in groups(table, panel) for text in [family] + [""] * (size - 1)]
    depth = max([len(heading(table.columns[i])) for i in panel], default=0)
    for i, top in zip(panel, tops, strict=True):
        lines = heading(table.columns[i])
        # bottom-aligned, so that arrows and threats stand on one line
        padded = [top, *[""] * (depth - len(lines)), *lines]
        grid.add_column(Text("\n".join(padded), style="bold"), justify="right", no_wrap=True)
    shown_rows = shown_lines(table, panel)
    for r in shown_rows:
        cells = [table.lines[r].cells[i] for i in panel]
        shown = [Text(plain(c), style="bold" if c.best else "") + c.signs for c in cells]
        last = r == len(table.rows) - 1 and r != shown_rows[-1]
        grid.add_row(Text(names[name(table, r)]), *shown, end_section=last)
    return grid
