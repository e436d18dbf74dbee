"""`bench plan`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from benchmark.commands._options import (
    Dataset,
    Json,
    Limit,
    Metrics,
    Models,
    Scale,
    Seeds,
    Split,
    Suite,
    Trainers,
    Workers,
)
from benchmark.commands._shared import err, out, planned_as
from benchmark.report.names import settings_in_words

# without the environment's values: they are no words of this command
_of_run = partial(
    typer.Option,
    rich_help_panel="Options of bench run, without effect on a plan",
)


def plan(
    suite: Suite = "quick",
    dataset: Dataset = None, model: Models = None, trainer: Trainers = None, metric: Metrics = None,
    seeds: Seeds = None, limit: Limit = None, split: Split = None, scale: Scale = None,
    workers: Workers = None, as_json: Json = False,
    device: Annotated[str | None, _of_run("--device")] = None,
    executor: Annotated[Literal["processes", "ray"] | None, _of_run("--executor")] = None,
    address: Annotated[str | None, _of_run("--address")] = None,
    folder: Annotated[Path | None, _of_run("--out", "-o")] = None,
    store: Annotated[str | None, _of_run("--store")] = None,
    data: Annotated[Path | None, _of_run("--data")] = None,
    refresh: Annotated[list[str] | None, _of_run("--refresh")] = None,
    quiet: Annotated[bool, _of_run("--quiet", "-q")] = False,
    strict: Annotated[bool, _of_run("--strict")] = False,
) -> None:  # fmt: skip
    """Show the cells of a suite, their number and an estimate of the time. Trains nothing."""
    from benchmark.controls import counted
    from benchmark.executors import processes
    from benchmark.running import costs

    _say_unused(
        device=device, executor=executor, address=address, out=folder, store=store, data=data,
        refresh=refresh, quiet=quiet, strict=strict,
    )  # fmt: skip
    planned = planned_as(suite, dataset, model, trainer, metric, seeds, limit, split, scale)
    overview = costs.overview(planned, workers or processes.usual("cpu"))
    if as_json:
        print(json.dumps(overview, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("trainings")
    table.add_column("metrics")
    names = [f"{t.label}, seed {t.seed}" if t.trainer else t.model for t in planned.trainings]
    metrics = counted((cell.metric, cell.threat) for cell in planned.cells)
    columns = [names, list(_named(metrics))]
    for i in range(max(map(len, columns))):
        table.add_row(*(escape(column[i]) if i < len(column) else "" for column in columns))
    out.print(table)
    out.print(
        f"\n{overview['models']} models x {_counted(metrics.values())} = {overview['cells']} cells on "
        f"{planned.data.name}, about {overview['refits']} retrainings.\n{overview['estimate']}",
        highlight=False,
    )


def _say_unused(**options: object) -> None:
    if given := [f"--{name}" for name, value in options.items() if value]:
        err.print(f"without effect on a plan: {', '.join(given)}", highlight=False)


def _named(metrics: Mapping[tuple[Any, Any], int]) -> Iterator[str]:
    """Metrics with their numbers of controls; with their settings where the label is that of another, too."""
    labels = [(metric.card.label(dict(metric.settings)), threat) for metric, threat in metrics]
    shared = {label for label, n in Counter(labels).items() if n > 1}
    for (label, threat), ((metric, _), controls) in zip(labels, metrics.items(), strict=True):
        settings = settings_in_words(str(metric)) if (label, threat) in shared else ""
        beside = f"+ {controls} control{'s' * (controls > 1)}" * bool(controls)
        yield " ".join(filter(None, [label, settings, str(threat or ""), beside]))


def _counted(controls: Collection[int]) -> str:
    metrics, beside = len(controls), sum(controls)
    return f"({metrics} metrics + {beside} controls)" if beside else f"{metrics} metrics"
