"""A plain table of texts: what is not a measure of every model (findings, published numbers, comparisons)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Grid:
    """Headings and rows of texts; a cell may have several lines. The renderers (formats/grids.py) only place them."""

    name: str
    """What it is, as part of a file's name: "health"."""
    dataset: str
    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    numbers: frozenset[int] = frozenset()
    """The columns of numbers, which stand to the right."""
    strong: Mapping[str, str] = field(default_factory=dict)
    """Cells that are to be seen at once: their text -> their colour on a terminal."""
    spare: Mapping[int, str] = field(default_factory=dict)
    """Columns that a narrow terminal goes without, the first one first, with the sentences that explain them."""
    cuts: tuple[int, ...] = ()
    """The columns before which a page that is too narrow is cut into panels; texts left of all numbers are in each."""
    best: frozenset[tuple[int, int]] = frozenset()
    """(row, column) of cells in bold."""

    def bold(self, row: int, column: int) -> bool:
        """Whether a cell is bold on paper."""
        return self.rows[row][column] in self.strong or (row, column) in self.best

    def notes(self, left_out: Collection[int] = ()) -> str:
        """The caption, which explains of the spare columns those that are not left out."""
        own = [text for column, text in self.spare.items() if text and column not in left_out]
        return " ".join([self.caption, *own])
