"""`bench doctor`."""

from __future__ import annotations

import typer
from rich.markup import escape

from benchmark.commands._options import Data
from benchmark.commands._shared import out


def doctor(data: Data = None) -> None:
    """Check the installation: versions, known clashes, device, data."""
    from benchmark.doctor import examine

    healthy = True
    for name, verdict, detail in examine(data):
        colour = {"ok": "green", "note": "yellow", "broken": "red"}[verdict]
        out.print(
            f"[{colour}]{verdict:6}[/] {name}: {escape(detail)}", highlight=False, soft_wrap=True
        )
        healthy &= verdict != "broken"
    raise typer.Exit(0 if healthy else 1)
