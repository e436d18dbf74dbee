"""`bench run`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from benchmark.commands._shared import cores, device_named, err, named_suite, planned_as, stem
from benchmark.commands.report import report
from benchmark.errors import Interrupted
from benchmark.options import (
    Data,
    Dataset,
    Device,
    Limit,
    Metrics,
    Models,
    Out,
    Scale,
    Seeds,
    Split,
    Suite,
    Trainers,
    Workers,
)


def run(
    suite: Suite = "quick",
    dataset: Dataset = None, model: Models = None, trainer: Trainers = None, metric: Metrics = None,
    seeds: Seeds = None, limit: Limit = None, split: Split = None, scale: Scale = None,
    device: Device = "auto",
    workers: Workers = None, folder: Out = None, data: Data = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if a preflight check fails.")] = False,
) -> None:  # fmt: skip
    """Train, measure and report. The same command again continues, or finds that all is done."""
    from benchmark.place import Place
    from benchmark.progress import display
    from benchmark.run import run as execute

    planned = planned_as(suite, dataset, model, trainer, metric, seeds, limit, split, scale)
    own = named_suite(suite).dataset == planned.data.name
    name = planned.suite.name if own else f"{planned.suite.name}-{stem(planned.data.name)}"
    if split == "validation":
        name += "-validation"
    place = Place(folder or Path("results") / name, data, device_named(device))
    workers = workers or (cores() if place.device == "cpu" else 1)
    words = shlex.join(["bench", *sys.argv[1:]])
    try:
        with display(err, workers) as shown:
            result = execute(planned, place, workers, begin=shown.begin, words=words)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; continue with the same command: {words}") from None
    report(place.folder)
    for title, reason in result.failed:
        err.print(
            f"[red]failed[/] {escape(title)}: {escape(reason)}", highlight=False, soft_wrap=True
        )
    for line in result.damaged:
        err.print(f"[red]damaged[/] {escape(line)}", highlight=False)
    for level, line in result.unfit:
        colour = {"WARN": "yellow", "FAIL": "red"}[level]
        err.print(f"[{colour}]preflight {level}[/] {escape(line)}", highlight=False, soft_wrap=True)
    if result.dropped:
        err.print(
            f"{result.dropped} cells of earlier commands (other images, recipe or code) left the tables; "
            "their results stay in the store."
        )
    if not result.computed and not result.failed:
        err.print("Nothing to do: every cell of this plan was done before.")
    raise typer.Exit(result.status(strict))
