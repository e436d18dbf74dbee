"""`bench status`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from benchmark.commands._options import Folder, Json
from benchmark.commands._shared import out

if TYPE_CHECKING:
    from benchmark.running.status import Status


def status(
    folder: Folder,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until the run ends.")] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.1, help="Seconds between two looks of --watch.")
    ] = 2.0,
) -> None:
    """Tell how many cells of a run are done, running, failed or waiting, and how long the rest will take."""
    from benchmark.running.interrupts import stoppable
    from benchmark.running.status import status as look

    def looks() -> Iterator[Status]:
        while True:
            found = look(folder)
            yield found
            if not (watch and found.run):
                return
            time.sleep(every)

    with stoppable("stopped watching; the run goes on"):
        if as_json:
            for found in looks():
                print(json.dumps(found.as_json(), indent=None if watch else 1), flush=True)
        elif watch and out.is_terminal:
            with Live(console=out, auto_refresh=False) as live:
                for found in looks():
                    live.update(Group(*_lines(found)), refresh=True)
        else:
            for found in looks():
                for line in _lines(found):
                    out.print(line, highlight=False, soft_wrap=True)


def _lines(found: Status) -> Iterator[Text]:
    from benchmark.running.expected import in_words

    counts = ", ".join(f"{number} {state}" for state, number in found.cells.items())
    yield Text(
        f"suite {found.suite}: {counts}; {found.models[0]} of {found.models[1]} models trained"
    )
    for note in found.jobs:
        epochs = f", epoch {note.epoch}/{note.epochs}" if note.epochs else ""
        yield Text(f"running {note.title} ({in_words(note.elapsed)}{epochs})", "cyan")
    for title, reason in found.reasons.items():
        yield Text.assemble(("failed", "red"), f" {title}: {reason}")
    left = f"{found.left} left on {found.workers} worker(s)"
    if found.run:
        yield Text(f"{left}; {found.run}")
    elif found.cells["waiting"] or found.cells["failed"]:
        yield Text(f"no run is in progress; {left}; continue with: {found.commands[0]}")
        for command in found.commands[1:]:
            yield Text(f"and with: {command}")
