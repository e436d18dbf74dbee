"""`bench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands._options import (
    Folder,
    Format,
    Formats,
    Quiet,
    Spread,
    Spreads,
    TextWidth,
)
from benchmark.commands._shared import err, out
from benchmark.report.tables.columns import GRIDS, NAMES


def report(
    folder: Folder,
    table: Annotated[
        str | None,
        typer.Option(
            "--table", "-t",
            help=f"Print this table and write nothing: {', '.join((*NAMES, *GRIDS))}, or one of the suite's own.",
        ),
    ] = None,
    as_format: Format = Formats.terminal,
    spread: Spread = Spreads.interval,
    textwidth: TextWidth = 490.0,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write the tables, the plots and the page of a run again, from its records, and print the main table."""
    if table or as_format is not Formats.terminal:
        _print(folder, table or "main", as_format, spread, textwidth)
        return
    page = written(folder, quiet, spread, textwidth)
    err.print(f"Report: {page}", highlight=False, soft_wrap=True)


def written(
    folder: Path, quiet: bool, spread: Spreads = Spreads.interval, textwidth: float = 490.0
) -> Path:
    """Write the report of a run, show its main table unless quiet, and return its page."""
    from benchmark.report.write import FOLDER, PAGE, terminal, write
    from benchmark.storage import records

    records.refresh(folder)
    write(
        folder,
        spread.value,
        lambda line: err.print(line, markup=False, highlight=False),
        textwidth,
    )
    if not quiet:
        for part in terminal(folder, out.width, spread.value):
            out.print(part)
    return folder / FOLDER / PAGE


def _print(folder: Path, name: str, as_format: Formats, spread: Spreads, textwidth: float) -> None:
    """One table to the standard output."""
    from benchmark.report import asked
    from benchmark.report.read import read
    from benchmark.storage import records

    records.refresh(folder)
    if as_format is Formats.terminal:
        for part in asked.terminal(read(folder, spread.value), name, out.width):
            out.print(part)
    else:
        print(asked.text(read(folder, spread.value), name, as_format.value, textwidth), end="")
