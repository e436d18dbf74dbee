r"""A table as LaTeX: a fragment for `\input` (it needs booktabs alone), and a document of its own that compiles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from benchmark.report.formats.tex_text import FALLBACK, tex
from benchmark.report.names import file_stem, norm_sign
from benchmark.report.tables.cells import NO_MORE, Cell
from benchmark.report.tables.panels import Panel, cut, groups, label_lines, name, shown_lines
from benchmark.report.tables.table import Table

WIDTH = 490.0
"""Points of a text that tables may fill unless it is said: two columns, a little less than most classes give."""

_GAP = 4.5
"""Points between columns at least."""

_POINTS = {**dict.fromkeys(".,:;'|ijl()[] ", 2.6), **dict.fromkeys("-%#<>=+@", 6.6), "±": 10.0}
_USUAL, _FOREIGN = 4.25, 8.5
_SCRIPT, _BOLD = 0.93, 1.15
"""Points of a character at footnote size (else a digit's, or one beyond ASCII); what script and bold make of it."""

_NAME = 26
"""Characters of a line of a row's name; longer names take several lines."""

ROWS = 52
"""Rows over all panels that fit one page with their headings; further panels go to further floats."""


def latex(table: Table, textwidth: float = WIDTH) -> str:
    """The fragment: floats with a tabular a panel; the first has the label, the last the notes.

    `textwidth`: the points (72.27 an inch) of the text that it goes into; wider tables are cut into panels.
    """
    names = [_lines(table, r) for r in range(len(table.lines))]
    longest = max((points(line) for lines in names for line in lines), default=0.0)
    wide = [_column_points(table, i) + _GAP for i in range(len(table.columns))]
    panels = cut(table, wide, textwidth - longest)
    size = max(1, ROWS // max(1, sum(map(len, names))))
    pages = [panels[i : i + size] for i in range(0, len(panels), size)] or [[]]
    body = "\n".join(_float(table, pages, i) for i in range(len(pages)))
    fallback = FALLBACK + "\n" if r"\benchglyph" in body else ""
    return r"% needs \usepackage{booktabs}" + "\n" + fallback + body


def _float(table: Table, pages: list[list[Panel]], i: int) -> str:
    tabulars = [_tabular(table, panel) for panel in pages[i]]
    notes = _notes(table) if i == len(pages) - 1 else []
    return floating(tex(table.title), label(table), i, tabulars, notes)


def floating(
    title: str,
    name: str,
    page: int,
    tabulars: Sequence[str],
    notes: Sequence[str],
    gap: str = "2pt",
) -> str:
    """A float with these tabulars; the first of a table (page 0) has its label, the others continue it."""
    caption = title + ("" if page == 0 else " (continued)") + "."
    lines = [
        r"\begin{table*}[tbp]" if page == 0 else r"\begin{table*}[tbp]\addtocounter{table}{-1}",
        rf"\centering\footnotesize\setlength{{\tabcolsep}}{{{gap}}}",
        rf"\caption{{{caption}}}" + (rf"\label{{{name}}}" if page == 0 else ""),
        r"\smallskip",
        "\n\\par\\medskip\n".join(tabulars),
        *notes,
        r"\end{table*}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _column_points(table: Table, i: int) -> float:
    """The width of a column: its widest number, or its heading."""
    cells = [row.cells[i] for row in table.lines]
    means, alone = (
        max(
            (points(c.shown) * (_BOLD if c.best else 1) for c in cells if bool(c.reach) == two),
            default=0.0,
        )
        for two in (True, False)
    )
    # one sign has room between columns
    reaches = max(
        (_SCRIPT * points(c.behind.replace("± ", "±") + c.signs[1:]) for c in cells if c.reach),
        default=0.0,
    )
    column = table.columns[i]
    heads = [*label_lines(column), norm_sign(column.threat)]
    return max(means + reaches, alone, *(points(line) for line in heads))


def points(text: str) -> float:
    """The width of a text at footnote size."""
    return sum(_POINTS.get(c, _USUAL if c.isascii() else _FOREIGN) for c in text)


def _lines(table: Table, r: int) -> list[str]:
    """A row's name in lines of at most `_NAME` characters, broken where a reader would."""
    lines = [""]
    for part in _parts(norm_sign(name(table, r))):
        if lines[-1] and len(lines[-1] + part.rstrip()) > _NAME:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _parts(text: str) -> list[str]:
    """A text in pieces of at most a line, between which it may be broken."""
    return re.findall(rf"[^\s_/,-]{{1,{_NAME}}}[\s_/,-]{{0,{_NAME}}}|[\s_/,-]{{1,{_NAME}}}", text)


def breakable(text: str) -> str:
    """Text for a paragraph, whose long words can be broken."""
    words = norm_sign(text).split(" ")
    pieces = [_parts(word) if len(word) > _NAME else [word] for word in words]
    return " ".join(r"\allowbreak{}".join(map(tex, own)) for own in pieces)


def label(table: Table) -> str:
    r"""What `\ref` names the table by: tab:digits, tab:cost-digits."""
    return "tab:" + file_stem(*([] if table.name == "main" else [table.name]), table.dataset)


def latex_document(*tables: Table) -> str:
    """A whole document with these tables, to look at: two columns of a 10-point article, which the tables span."""
    return document("\n".join(latex(table) for table in tables))


def document(body: str) -> str:
    """A document of two columns around floats."""
    return "\n".join(
        [
            r"\documentclass[10pt,twocolumn]{article}",
            # the text width of a conference's two columns
            r"\usepackage[letterpaper,textwidth=6.875in,textheight=9in]{geometry}",
            # outline fonts with all accents where they are installed, Computer Modern otherwise
            r"\IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}",
            r"\usepackage{booktabs}",
            r"\usepackage{array}",  # of LaTeX itself
            r"\pagestyle{empty}",
            r"\begin{document}",
            body + r"\end{document}",
            "",
        ]
    )


def _tabular(table: Table, panel: Panel) -> str:
    # a measure is two columns, mean and ±, so that both align whatever their widths; the room goes between measures
    measure = r"@{\extracolsep{\fill}\hspace{2\tabcolsep}}r@{\extracolsep{0pt}\,}l"
    head = [
        *_families(table, panel),
        *_threats(table, panel),
        *_headings(table, panel),
        r"\midrule",
    ]
    lines = [_row(table, r, panel) for r in shown_lines(table, panel)]
    below = lines[len(table.rows) :]
    rows = [line for own in lines[: len(table.rows)] for line in own]
    rows += [r"\midrule"] * bool(below) + [line for own in below for line in own]
    return "\n".join(
        [
            r"\begin{tabular*}{\linewidth}{@{}l" + measure * len(panel) + "@{}}",
            r"\toprule",
            *head,
            *rows,
            r"\bottomrule",
            r"\end{tabular*}",
        ]
    )


def _families(table: Table, panel: Panel) -> list[str]:
    return _spanning([(tex(family), size) for family, size in groups(table, panel)])


def _threats(table: Table, panel: Panel) -> list[str]:
    """The threats of the evaluations over the columns that share them; no line where there are none."""
    columns = [table.columns[i] for i in panel]
    parts = groupby(columns, key=lambda column: (column.family, column.threat))
    spans = [(tex(threat), len(list(own))) for (_, threat), own in parts]
    return _spanning(spans) if any(threat for threat, _ in spans) else []


def _spanning(spans: Sequence[tuple[str, int]]) -> list[str]:
    """A line of headings over so many columns each, with a rule below those that say something."""
    cells, rules, start = [""], [], 2
    for text, size in spans:
        cells.append(rf"\multicolumn{{{2 * size}}}{{c}}{{{text}}}")
        if text:
            rules.append(rf"\cmidrule(lr){{{start}-{start + 2 * size - 1}}}")
        start += 2 * size
    return [_line(cells), " ".join(rules)]


def _headings(table: Table, panel: Panel) -> list[str]:
    heads = [label_lines(table.columns[i]) for i in panel]
    depth = max((len(lines) for lines in heads), default=0)
    # bottom-aligned, so that arrows stand on one line
    padded = [[""] * (depth - len(lines)) + lines for lines in heads]
    return [
        _line(["", *(rf"\multicolumn{{2}}{{c}}{{{tex(lines[d])}}}" for lines in padded)])
        for d in range(depth)
    ]


def _row(table: Table, r: int, panel: Panel) -> list[str]:
    first, *rest = _lines(table, r)
    cells = [_cell(table.lines[r].cells[i]) for i in panel]
    empty = [" & "] * len(panel)
    return [_line([tex(first), *cells]), *(_line([r"\quad " + tex(line), *empty]) for line in rest)]


def _cell(cell: Cell) -> str:
    # without width: the letters must not push the numbers out of line
    signs = "".join(_mark(sign) for sign in (NO_MORE * bool(cell.unbeaten), cell.mark) if sign)
    mark = rf"\rlap{{{signs}}}" if signs else ""
    shown = "--" if cell.shown == "–" else _number(cell.shown)
    mean = rf"\textbf{{{shown}}}" if cell.best else shown
    if not cell.reach:
        return rf"\multicolumn{{2}}{{c}}{{{mean}{mark}}}"
    behind = _number(cell.behind).replace(r"\ensuremath{\pm} ", r"\ensuremath{\pm}\,")
    return rf"{mean} & {{\scriptsize{behind}}}{mark}"


def _number(text: str) -> str:
    return tex(text).replace("-", r"\ensuremath{-}")


def _notes(table: Table) -> list[str]:
    """What the numbers are, below them: as a caption it would be longer than many a table."""
    marked = [rf"{_mark(mark)}\,{tex(text)}" for mark, text in table.footnotes]
    return minipage([tex(table.caption), *marked])


def minipage(notes: Sequence[str]) -> list[str]:
    """Notes under a table, one a line."""
    start = r"\par\smallskip\begin{minipage}{\linewidth}\raggedright\scriptsize"
    return [start, "\\\\\n".join(filter(None, notes)), r"\end{minipage}"]


def _mark(mark: str) -> str:
    return tex(mark) if mark in ("†", NO_MORE) else rf"\textsuperscript{{{mark}}}"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
