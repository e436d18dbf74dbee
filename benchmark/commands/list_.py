"""`bench list`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from benchmark.commands._options import Json, Listing
from benchmark.commands._shared import out


def list_(
    what: Annotated[
        Listing,
        # the choices are in the help: typer's own list of them breaks within words
        typer.Argument(metavar="KIND", show_choices=False, help=f"One of {', '.join(Listing)}."),
    ],
    as_json: Json = False,
) -> None:
    """List what can be named in a suite."""
    from benchmark.cards.catalogue import catalogue

    rows = catalogue(what.value)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        row["name"] += "†" * row.pop("reconstruction", False)
    table = Table(box=None, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, no_wrap=column == "name")
    for row in rows:
        table.add_row(*(escape(value) for value in row.values()))
    out.print(table)
