"""A table as Markdown: pipe tables which GitHub and Pandoc read, one a panel, with the notes below."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmark.report.tables.panels import Panel, name, panels, plain, shown_lines
from benchmark.report.tables.table import Table

_WIDTH = 140
"""Characters that a page on GitHub shows without a scroll bar."""


def markdown(table: Table) -> str:
    """The whole table under its title."""
    grids = [_grid(table, panel) for panel in panels(table, _WIDTH)]
    notes = [f"- {mark} {escape(text)}" for mark, text in table.footnotes]
    blocks = [f"## {escape(table.title)}", *grids, escape(table.caption), "\n".join(notes)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: str) -> str:
    """Text that Markdown and the HTML within it show as it is, on one line."""
    safe = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    safe = re.sub(r"([\\`*|\[\]$~])", r"\\\1", safe)
    # an underscore within a word is not emphasis, and escaping it would only hurt the plain reader
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", safe)


def _grid(table: Table, panel: Panel) -> str:
    columns = [table.columns[i] for i in panel]
    heads = [
        "<br>".join(
            filter(
                None,
                [f"*{escape(c.family)}*", escape(f"{c.label} {c.arrow}".strip()), escape(c.threat)],
            )
        )
        for c in columns
    ]
    body = [
        [_name(table, r), *(_cell(table, r, i) for i in panel)] for r in shown_lines(table, panel)
    ]
    rule = [":--", *["--:"] * len(panel)]
    return "\n".join(_line(cells) for cells in [["", *heads], rule, *body])


def _name(table: Table, row: int) -> str:
    text = escape(name(table, row))
    return f"*{text}*" if table.lines[row] in table.controls else text


def _cell(table: Table, row: int, column: int) -> str:
    cell = table.lines[row].cells[column]
    text = f"**{plain(cell)}**" if cell.best else plain(cell)
    return f"{text} <sup>{cell.signs}</sup>" if cell.signs else text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
