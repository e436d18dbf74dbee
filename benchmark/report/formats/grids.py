"""A grid of texts as Markdown and for the terminal (grid_tex.py has LaTeX)."""

from __future__ import annotations

from typing import Literal

from rich import box
from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from benchmark.report.formats.markdown import escape
from benchmark.report.grid import Grid

_SHORT = 24
"""Characters up to which a cell stays on one line of a terminal; names take what is left."""


def grid_markdown(grid: Grid) -> str:
    """A pipe table under its title."""
    rule = ["--:" if i in grid.numbers else ":--" for i in range(len(grid.headings))]
    lines = [_pipes([escape(text) for text in grid.headings]), _pipes(rule)]
    for r, row in enumerate(grid.rows):
        cells = ["<br>".join(map(escape, text.split("\n"))) for text in row]
        lines.append(
            _pipes([f"**{text}**" if grid.bold(r, c) else text for c, text in enumerate(cells)])
        )
    return "\n\n".join([f"## {escape(grid.title)}", "\n".join(lines), escape(grid.notes())])


def grid_terminal(grid: Grid, width: int = 100) -> list[RenderableType]:
    """The same for rich's console: Text objects throughout, a name is never read as markup."""
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    columns, left_out = _fitting(grid, width)
    tight = _room(grid, columns) > width
    for i in columns:
        justify: Literal["left", "right"] = "right" if i in grid.numbers else "left"
        whole = _short(grid, i) and not (tight and _breaks(grid, i))
        shown.add_column(Text(grid.headings[i]), justify=justify, no_wrap=whole, overflow="fold")
    for r, row in enumerate(grid.rows):
        shown.add_row(*(Text(row[i], _style(grid, r, i)) for i in columns))
    notes = " ".join(filter(None, [grid.notes(left_out), _named(grid, left_out)]))
    return [Text(grid.title, style="bold"), shown, Text(notes, style="dim")]


def _fitting(grid: Grid, width: int) -> tuple[list[int], list[int]]:
    """The columns for a terminal of this width, and the spare ones that have no room there."""
    columns, left_out = list(range(len(grid.headings))), []
    for spare in grid.spare:
        if _room(grid, columns) <= width:
            break
        columns.remove(spare)
        left_out.append(spare)
    return columns, left_out


def _named(grid: Grid, left_out: list[int]) -> str:
    names = ", ".join(grid.headings[i] for i in sorted(left_out))
    return f"Left out for want of room: {names} (--out FILE has them)." if names else ""


def _room(grid: Grid, columns: list[int]) -> int:
    """The characters that these columns should have, with their gaps."""
    return sum(_wide(grid, i) + 2 for i in columns)


def _wide(grid: Grid, column: int) -> int:
    """The characters that a column should have: all of a short one, the room of a name for others."""
    longest = max(len(text) for text in (grid.headings[column], *(r[column] for r in grid.rows)))
    return longest if _short(grid, column) else min(longest, _SHORT)


def _short(grid: Grid, column: int) -> bool:
    return column > 0 and all(len(row[column]) <= _SHORT for row in grid.rows)


def _breaks(grid: Grid, column: int) -> bool:
    """Whether lines of a column can break between words."""
    return any(" " in row[column] for row in grid.rows)


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _style(grid: Grid, row: int, column: int) -> str:
    own = "bold" if (row, column) in grid.best else ""
    return grid.strong.get(grid.rows[row][column], own)
