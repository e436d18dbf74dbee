"""`bench verify`."""

from __future__ import annotations

import typer
from rich.markup import escape

from benchmark.commands._options import Data, Device, Folder
from benchmark.commands._shared import device_named, err, out
from benchmark.errors import BenchError


def verify(folder: Folder, data: Data = None, device: Device = "auto") -> None:
    """Judge a run's saved adversarial examples again, and name every disagreement with what it recorded.

    Each is predicted in other batches than in the run: is it inside the ball and [0, 1], does the label change, is the
    unchanged image classified as it was? Exit status 1 if anything differs, 5 if a stored file is damaged.
    """
    from benchmark.executors import prepare
    from benchmark.measuring.verify import examples, outcome
    from benchmark.measuring.verify import verify as judged

    entries, without = examples(folder)
    if not entries:
        raise BenchError(
            f"{folder} keeps no adversarial examples: run attacks with adversarials > 0"
        )
    prepare()
    seen = []
    for number, checked in enumerate(judged(folder, entries, data, device_named(device)), 1):
        seen.append(checked)
        err.print(f"{number}/{len(entries)} {escape(checked.title)}", highlight=False)
        for kind, line in checked.remarks:
            colour = "yellow" if kind == "not verifiable" else "red"
            out.print(f"[{colour}]{kind}[/] {escape(line)}", highlight=False)
    summary, status = outcome(seen, without)
    out.print(summary, highlight=False)
    raise typer.Exit(status)
