"""`bench plan`."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

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
from benchmark.commands._shared import out, planned_as


def plan(
    suite: Suite,
    dataset: Dataset = None, model: Models = None, trainer: Trainers = None, metric: Metrics = None,
    seeds: Seeds = None, limit: Limit = None, split: Split = None, scale: Scale = None,
    workers: Workers = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show the cells of a suite, their number and an estimate of the time. Trains nothing."""
    from benchmark.controls import counted
    from benchmark.executors import processes
    from benchmark.running import costs

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
    columns = [names, [_named(*each, controls) for each, controls in metrics.items()]]
    for i in range(max(map(len, columns))):
        table.add_row(*(escape(column[i]) if i < len(column) else "" for column in columns))
    out.print(table)
    out.print(
        f"\n{overview['models']} models x {_counted(metrics.values())} = {overview['cells']} cells on "
        f"{planned.data.name}, {overview['refits']} retrainings at most.\n{overview['estimate']}",
        highlight=False,
    )


def _named(metric: Any, threat: Any, controls: int) -> str:
    label = metric.card.label(dict(metric.settings))
    beside = f"+ {controls} control{'s' * (controls > 1)}" * bool(controls)
    return " ".join(filter(None, [label, str(threat or ""), beside]))


def _counted(controls: Collection[int]) -> str:
    metrics, beside = len(controls), sum(controls)
    return f"({metrics} metrics + {beside} controls)" if beside else f"{metrics} metrics"
