"""`bench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands._options import Folder, Format, Formats, Quiet, Spread, Spreads
from benchmark.commands._shared import err, out
from benchmark.report.columns import NAMES


def report(
    folder: Folder,
    table: Annotated[
        str | None,
        typer.Option(
            "--table", "-t",
            help=f"Print this table and write nothing: {', '.join(NAMES)}, or one of the suite's own.",
        ),
    ] = None,
    as_format: Format = Formats.terminal,
    spread: Spread = Spreads.interval,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write the tables, the plots and the page of a run again, from its records, and print the main table."""
    from benchmark.report.write import PAGE, terminal, write
    from benchmark.storage import records

    records.refresh(folder)
    if table or as_format is not Formats.terminal:
        _print(folder, table or "main", as_format, spread)
        return
    write(folder, spread.value)
    if quiet:
        return
    for part in terminal(folder, out.width, spread.value):
        out.print(part)
    err.print(f"Report: {folder / 'report' / PAGE}", highlight=False, soft_wrap=True)


def _print(folder: Path, name: str, as_format: Formats, spread: Spreads) -> None:
    """One table to the standard output."""
    from benchmark.report.read import read
    from benchmark.report.sets import shown

    if as_format is Formats.terminal:
        from benchmark.report.formats.terminal import terminal
        from benchmark.report.sets import tables

        for part in (
            part
            for each in tables(read(folder, spread.value), name)
            for part in terminal(each, out.width)
        ):
            out.print(part)
    else:
        print(shown(read(folder, spread.value), name, as_format.value), end="")
