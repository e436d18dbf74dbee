"""`bench plan`."""

from __future__ import annotations

import json

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
    cells = list(
        dict.fromkeys(
            (c.metric.card.label(dict(c.metric.settings)), str(c.threat or ""))
            for c in planned.cells
        )
    )
    columns = [names, [f"{label} {threat}".strip() for label, threat in cells]]
    for i in range(max(map(len, columns))):
        table.add_row(*(escape(column[i]) if i < len(column) else "" for column in columns))
    out.print(table)
    out.print(
        f"\n{overview['models']} models x {len(cells)} metrics = {overview['cells']} cells on "
        f"{planned.data.name}, {overview['refits']} retrainings at most. {overview['estimate']}",
        highlight=False,
    )
