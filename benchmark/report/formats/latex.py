r"""A table as LaTeX: a fragment for `\input` (it needs booktabs alone), and a document of its own that compiles."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from benchmark.report.cells import Cell
from benchmark.report.formats.tex_text import FALLBACK, tex
from benchmark.report.names import file_stem
from benchmark.report.panels import Panel, groups, heading, name, panels
from benchmark.report.table import Table

_WIDTH = 121
"""Characters that fit a page's width at footnote size, where the figures after the ± are smaller still."""

_NAME = 30
"""Characters of a line of a row's name; longer names take several lines."""

_ROWS = 52
"""Rows over all panels that fit one page with their headings; further panels go to further floats."""


def latex(table: Table) -> str:
    """The fragment: floats with a tabular a panel; the first has the caption and the label, the last the notes."""
    cut = panels(table, _WIDTH, gap=1, limit=_NAME)
    lines = sum(len(textwrap.wrap(name(table, r), _NAME)) for r in range(len(table.rows)))
    size = max(1, _ROWS // max(1, lines))
    pages = [cut[i : i + size] for i in range(0, len(cut), size)] or [[]]
    body = "\n".join(_float(table, pages, i) for i in range(len(pages)))
    fallback = FALLBACK + "\n" if r"\benchglyph" in body else ""
    return r"% needs \usepackage{booktabs}" + "\n" + fallback + body


def _float(table: Table, pages: list[list[Panel]], i: int) -> str:
    first = [
        rf"{tex(table.title)}. {tex(table.caption)}",
        rf"\label{{tab:{file_stem(table.dataset)}}}",
    ]
    caption, label = first if i == 0 else [rf"{tex(table.title)} (continued).", ""]
    lines = [
        r"\begin{table*}[tbp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption}}}{label}",
        r"\smallskip",
        "\n\\par\\medskip\n".join(_tabular(table, panel) for panel in pages[i]),
        *(_notes(table) if i == len(pages) - 1 else []),
        r"\end{table*}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def latex_document(table: Table) -> str:
    """A whole document with this table, to look at."""
    return "\n".join(
        [
            r"\documentclass[10pt]{article}",
            r"\usepackage[a4paper,margin=18mm]{geometry}",
            # outline fonts with all accents where they are installed, Computer Modern otherwise
            r"\IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}",
            r"\usepackage{booktabs}",
            r"\pagestyle{empty}",
            r"\begin{document}",
            latex(table) + r"\end{document}",
            "",
        ]
    )


def _tabular(table: Table, panel: Panel) -> str:
    # a measure is two columns, mean and ±, so that both align whatever their widths; the room goes between measures
    measure = r"@{\extracolsep{\fill}\hspace{2\tabcolsep}}r@{\extracolsep{0pt}\,}l"
    head = [*_families(table, panel), *_headings(table, panel), r"\midrule"]
    rows = [line for r in range(len(table.rows)) for line in _row(table, r, panel)]
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
    cells, rules, start = [""], [], 2
    for family, size in groups(table, panel):
        cells.append(rf"\multicolumn{{{2 * size}}}{{c}}{{{tex(family)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + 2 * size - 1}}}")
        start += 2 * size
    return [_line(cells), " ".join(rules)]


def _headings(table: Table, panel: Panel) -> list[str]:
    heads = [heading(table.columns[i]) for i in panel]
    depth = max(len(lines) for lines in heads)
    # bottom-aligned, so that arrows and threats stand on one line
    padded = [[""] * (depth - len(lines)) + lines for lines in heads]
    return [
        _line(["", *(rf"\multicolumn{{2}}{{c}}{{{tex(lines[d])}}}" for lines in padded)])
        for d in range(depth)
    ]


def _row(table: Table, r: int, panel: Panel) -> list[str]:
    first, *rest = textwrap.wrap(name(table, r), _NAME) or [""]
    cells = [_cell(table.rows[r].cells[i]) for i in panel]
    empty = [" & "] * len(panel)
    return [_line([tex(first), *cells]), *(_line([r"\quad " + tex(line), *empty]) for line in rest)]


def _cell(cell: Cell) -> str:
    # without width: the letters must not push the numbers out of line
    mark = rf"\rlap{{\textsuperscript{{{cell.mark}}}}}" if cell.mark else ""
    shown = tex(cell.shown).replace("-", r"\ensuremath{-}") if cell.seeds else "--"
    mean = rf"\textbf{{{shown}}}" if cell.best else shown
    if not cell.reach:
        return rf"\multicolumn{{2}}{{c}}{{{mean}{mark}}}"
    return rf"{mean} & {{\scriptsize\ensuremath{{\pm}}\,{cell.reach}}}{mark}"


def _notes(table: Table) -> list[str]:
    if not table.footnotes:
        return []
    notes = [rf"{_mark(mark)}\,{tex(text)}" for mark, text in table.footnotes]
    start = r"\par\smallskip\begin{minipage}{\linewidth}\raggedright\scriptsize"
    return [start, "\\\\\n".join(notes), r"\end{minipage}"]


def _mark(mark: str) -> str:
    return tex(mark) if mark == "†" else rf"\textsuperscript{{{mark}}}"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
