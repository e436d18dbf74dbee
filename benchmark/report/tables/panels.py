"""How a wide table is cut: into panels of whole families where they fit a width, each panel with all rows."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from benchmark.report.tables.cells import Cell, Column
from benchmark.report.tables.table import Table

Panel = list[int]
"""The columns of a panel, as indices into the table's."""

_HEADING = 11
"""Characters of a heading's line: as wide as "41.2 ± 12.7", so that headings do not widen columns."""


def panels(table: Table, width: float, gap: float = 2, limit: int = 36) -> list[Panel]:
    """The columns in panels of at most `width` characters, row names (of at most `limit`) included."""
    names = max([min(limit, len(name(table, i))) for i in range(len(table.lines))], default=0)
    wide = [column_width(table, i) + gap for i in range(len(table.columns))]
    return cut(table, wide, width - names)


def cut(table: Table, wide: Sequence[float], room: float) -> list[Panel]:
    """The columns, so `wide` with the gaps beside them, in panels that fit a room."""
    found: list[Panel] = []
    for family in _families(table):
        for part in _chunks(family, wide, room):
            fits = found and sum(wide[i] for i in (*found[-1], *part)) <= room
            if fits:
                found[-1].extend(part)
            else:
                found.append(part)
    return found


def groups(table: Table, panel: Panel) -> list[tuple[str, int]]:
    """(family, number of its columns) of a panel from left to right."""
    families = groupby(table.columns[i].family for i in panel)
    return [(family[:1].upper() + family[1:], len(list(members))) for family, members in families]


def heading(column: Column) -> list[str]:
    """A column's heading in lines: the label with its arrow, then the threat of the evaluation."""
    return [*label_lines(column), *([column.threat] if column.threat else [])]


def label_lines(column: Column) -> list[str]:
    """The label with its arrow, in lines as wide as numbers are."""
    lines = textwrap.wrap(column.label, _HEADING, break_long_words=False) or [column.measure]
    if column.arrow:
        lines[-1] += f" {column.arrow}"
    return lines


def name(table: Table, row: int) -> str:
    """A row's name with its dagger."""
    return table.lines[row].name + ("†" if table.lines[row].dagger else "")


def shown_lines(table: Table, panel: Panel) -> list[int]:
    """The lines of a panel: all rows, and the controls that say something in its columns."""
    below = range(len(table.rows), len(table.lines))
    return [
        *range(len(table.rows)),
        *(r for r in below if any(table.lines[r].cells[i].shown for i in panel)),
    ]


def plain(cell: Cell) -> str:
    """A cell as text, without the signs of its footnotes."""
    return f"{cell.shown} {cell.behind}".rstrip()


def column_width(table: Table, i: int) -> int:
    """Characters of a column."""
    cells = [len(plain(row.cells[i])) + len(row.cells[i].signs) for row in table.lines]
    return max([len(line) for line in heading(table.columns[i])] + cells)


def _families(table: Table) -> list[Panel]:
    indices = groupby(range(len(table.columns)), key=lambda i: table.columns[i].family)
    return [list(members) for _, members in indices]


def _chunks(family: Panel, wide: Sequence[float], room: float) -> Iterator[Panel]:
    """A family that is too wide by itself in as few, evenly filled parts as will do."""
    parts = math.ceil(sum(wide[i] for i in family) / max(room, 1))
    # columns that are wider than their share may need one part more
    while parts < len(family):
        size = -(-len(family) // parts)
        chunks = [family[i : i + size] for i in range(0, len(family), size)]
        if all(sum(wide[i] for i in chunk) <= room for chunk in chunks):
            break
        parts += 1
    size = -(-len(family) // min(parts, len(family)))
    yield from (family[i : i + size] for i in range(0, len(family), size))
