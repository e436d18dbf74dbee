"""`bench report`."""

from __future__ import annotations

from benchmark.commands._shared import err, out
from benchmark.options import Folder


def report(folder: Folder) -> None:
    """Write the tables and plots of a run again, from its records, and print the main table."""
    from benchmark import records
    from benchmark.report.write import terminal, write

    if (folder / "plan.json").is_file():
        records.refresh(folder)
    write(folder)
    for table in terminal(folder, width=out.width):
        out.print(table)
    err.print(f"Report: {folder / 'report'}", highlight=False, soft_wrap=True)
