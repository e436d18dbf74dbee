r"""A grid of texts as LaTeX: floats that fit a page, however many rows and columns there are."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise, product
from typing import NamedTuple

from benchmark.report.formats.latex import ROWS, WIDTH, breakable, floating, minipage, points
from benchmark.report.formats.tex_text import FALLBACK, tex
from benchmark.report.grid import Grid
from benchmark.report.names import file_stem
from benchmark.report.tables.cells import NO_MORE

_LONG = 150.0
"""Points from which a column of texts is a paragraph, and its lines break; in want of room from `_LEAST`."""
_LEAST = 60.0
"""Points that a paragraph has at least."""
_GAP = 8.0
_INDENT = 10.0
_HEADING = 11
"""Characters of a heading's line at least."""
_SHARED = 3
"""Rows of one name, in the mean, from which it stands once above them."""
_NO_MORE = tex(NO_MORE)

Panel = dict[int, float]
"""Column -> its points."""


class _Layout(NamedTuple):
    """How a grid is placed on the page."""

    panels: list[Panel]
    long: list[int]
    """The columns of paragraphs."""
    textwidth: float
    headed: bool
    """Whether rows of one name stand below it: the first column is no column then."""
    left_out: list[int]

    def fits(self) -> bool:
        """Whether no panel is wider than the page."""
        return all(sum(own.values()) + _GAP * len(own) <= self.textwidth for own in self.panels)


def grid_latex(grid: Grid, textwidth: float = WIDTH) -> str:
    r"""Floats for `\input` (they need booktabs, and array where a column is of paragraphs that share the room).

    `textwidth`: the points of the text that they go into.
    """
    placed = _layout(grid, textwidth)
    pages = _pages(grid, placed)
    label = f"tab:{file_stem(grid.name, grid.dataset)}"
    body = "\n".join(
        floating(
            tex(grid.title),
            label,
            page,
            [_tabular(grid, placed, panel, rows) for panel in placed.panels],
            minipage([tex(grid.notes(placed.left_out))]) if page == len(pages) - 1 else [],
            gap="4pt",
        )
        for page, rows in enumerate(pages)
    )
    fallback = FALLBACK + "\n" if r"\benchglyph" in body else ""
    needed = "booktabs,array" if r"\arraybackslash" in body else "booktabs"
    absent = ", ".join(grid.headings[i] for i in sorted(placed.left_out))
    without = f"% left out for want of room: {absent}\n" if absent else ""
    return rf"% needs \usepackage{{{needed}}}" + "\n" + without + fallback + body


def _layout(grid: Grid, textwidth: float) -> _Layout:
    """The first that fits: rather names above their rows, narrow paragraphs and panels than without a spare column."""
    names = [row[0] for row in grid.rows]
    runs = len(list(groupby(names)))
    headable = runs < len(names) and max(map(points, names)) < textwidth
    headings = (
        [False] if not headable else [True] if _SHARED * runs <= len(names) else [False, True]
    )
    cuts = [False, True] if grid.cuts else [False]
    options = product(range(len(grid.spare) + 1), [_LONG, _LEAST], headings, cuts)
    layouts = [_placed(grid, textwidth, *option) for option in options]
    return next((each for each in layouts if each.fits()), layouts[-1])


def _placed(
    grid: Grid, textwidth: float, dropped: int, limit: float, headed: bool, cut: bool
) -> _Layout:
    """Without so many spare columns; paragraphs from so many points; cut into panels or not."""
    left_out = list(grid.spare)[:dropped]
    columns = [i for i in range(headed, len(grid.headings)) if i not in left_out]
    wide = {i: _wide(grid, i) + _INDENT * (headed and i == 1) for i in columns}
    long = [
        i
        for i in columns
        if i not in grid.numbers and (wide[i] > limit or any("\n" in row[i] for row in grid.rows))
    ]
    ends = [0, *(grid.cuts if cut else ()), len(grid.headings)]
    names = [i for i in columns if i < min(grid.numbers, default=0)] if cut else []
    panels = [
        [*names, *(i for i in columns if first <= i < last and i not in names)]
        for first, last in pairwise(ends)
    ]
    shared = [_panel(wide, own, long, textwidth) for own in panels]
    return _Layout(shared, long, textwidth, headed, left_out)


def _panel(wide: Panel, columns: Sequence[int], long: Sequence[int], textwidth: float) -> Panel:
    """The points of a panel's columns: paragraphs share what the others leave, by what they would like."""
    own = [i for i in columns if i in long]
    taken = sum(wide[i] for i in columns if i not in long) + _GAP * len(columns)
    more = max(textwidth - taken - _LEAST * len(own), 0.0)
    whole = sum(wide[i] for i in own)
    shared = {i: min(wide[i] + 2, _LEAST + more * wide[i] / whole) for i in own}
    return {i: shared.get(i, wide[i]) for i in columns}


def _wide(grid: Grid, column: int) -> float:
    """The points that a column would like to have."""
    texts = [row[column] for row in grid.rows]
    if column in grid.numbers:
        texts = [text.replace(NO_MORE, "") for text in texts]  # without width, see `_cell`
    lines = [line for text in texts for line in text.split("\n")]
    return max(map(points, [*lines, *_heading(grid, column)]), default=0.0)


def _heading(grid: Grid, column: int) -> list[str]:
    """A heading in lines, which do not widen their column."""
    longest = max((len(row[column]) for row in grid.rows), default=0)
    return textwrap.wrap(grid.headings[column], max(_HEADING, longest), break_long_words=False)


def _pages(grid: Grid, placed: _Layout) -> list[list[int]]:
    """The rows of every page: names stay with all their rows where these fit a page."""
    room = max(ROWS // len(placed.panels), 2)
    pages: list[list[int]] = [[]]
    left = room
    for part in _parts(grid, placed, room):
        taken = sum(_lines(grid, placed, r) for r in part) + placed.headed
        if pages[-1] and taken > left:
            pages.append([])
            left = room
        pages[-1] += part
        left -= taken
    return pages


def _parts(grid: Grid, placed: _Layout, room: int) -> Iterator[list[int]]:
    """Rows that stay on one page: those of a name, or single ones."""
    if not placed.headed:
        yield from ([r] for r in range(len(grid.rows)))
        return
    for _, members in groupby(range(len(grid.rows)), key=lambda r: grid.rows[r][0]):
        rows = list(members)
        most = max(_lines(grid, placed, r) for r in rows)
        size = max((room - 1) // most, 1)
        yield from (rows[i : i + size] for i in range(0, len(rows), size))


def _lines(grid: Grid, placed: _Layout, r: int) -> int:
    """The lines that a row takes."""
    wide = {i: own for panel in placed.panels for i, own in panel.items() if i in placed.long}
    return max(
        (
            sum(math.ceil(max(points(line), 1) / own) for line in grid.rows[r][i].split("\n"))
            for i, own in wide.items()
        ),
        default=1,
    )


def _tabular(grid: Grid, placed: _Layout, panel: Panel, rows: Sequence[int]) -> str:
    heads = [_heading(grid, i) for i in panel]
    depth = max(map(len, heads))
    # bottom-aligned, as in the tables of measures
    padded = [[""] * (depth - len(lines)) + lines for lines in heads]
    kinds = "".join(_kind(grid, placed, i, panel[i]) for i in panel)
    # panels below one another are of one width
    several = len(placed.panels) > 1
    begin = r"tabular*}{\linewidth}{@{\extracolsep{\fill}}" if several else "tabular}{"
    lines = [
        rf"\begin{{{begin}@{{}}{kinds}@{{}}}}",
        r"\toprule",
        *(_line([tex(lines[d]) for lines in padded]) for d in range(depth)),
        r"\midrule",
    ]
    for at, r in enumerate(rows):
        if placed.headed and (not at or grid.rows[r][0] != grid.rows[rows[at - 1]][0]):
            lines += [r"\addlinespace"] * bool(at) + [_name(grid, r, len(panel), at == 0)]
        cells = [_cell(grid, r, i) for i in panel]
        hanging = r"\hangindent=2em" * (1 in placed.long)
        lines.append(rf"{hanging}\quad " * placed.headed + _line(cells))
    return "\n".join([*lines, r"\bottomrule", rf"\end{{tabular{'*' * several}}}"])


def _kind(grid: Grid, placed: _Layout, column: int, wide: float) -> str:
    if column in placed.long:
        return rf">{{\raggedright\arraybackslash}}p{{{wide:.0f}pt}}"
    return "r" if column in grid.numbers else "l"


def _name(grid: Grid, r: int, columns: int, first: bool) -> str:
    """The line above the rows of one name; where these began on an earlier page, it says so."""
    text = grid.rows[r][0]
    again = " (continued)" * (first and r > 0 and grid.rows[r - 1][0] == text)
    return rf"\multicolumn{{{columns}}}{{@{{}}l@{{}}}}{{\textit{{{tex(text)}}}{again}}} \\"


def _cell(grid: Grid, r: int, column: int) -> str:
    signed = re.sub(r"(?<!\w)-(?=\d)", "−", grid.rows[r][column])
    text = r"\newline ".join(map(breakable, signed.split("\n")))
    # an arrow does not stand alone on a line
    text = re.sub(r" (?=\\ensuremath\{\\(?:up|down)arrow\})", "~", text)
    if column in grid.numbers:
        # without width: a sign must not push a number out of line
        text = text.replace(_NO_MORE, rf"\rlap{{{_NO_MORE}}}")
    return rf"\textbf{{{text}}}" if grid.bold(r, column) else text


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
