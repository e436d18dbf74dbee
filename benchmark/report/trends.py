"""How measures follow the attack strength of adversarial training, and the accuracy it costs (Kim, Seo & Jeon 2019).

A series is a training method at three or more radii of one norm, all else equal, with standard training as strength 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from benchmark.report import kim2019
from benchmark.report.grid import Grid
from benchmark.report.names import dataset_title, norm_sign, usual_names
from benchmark.report.pooling import MEASURE, pooled
from benchmark.report.read import Run
from benchmark.report.series import clean, labelled, threat
from benchmark.report.tables.beside import apart
from benchmark.report.tables.chosen import EVERYTHING
from benchmark.report.tables.table import DAGGER, table
from benchmark.statistics.relations import Correlation, pearson, spearman

_MODELS = ("model", "trainer", "strength", "accuracy", "value", "low", "high", "n")
FEWEST = 3
"""Radii that make a series."""
_KINDS = ("Pearson", "Spearman")
_CAPTION = (
    "Correlations over models of a measure (mean over seeds) with the radius of the training (0: standard), and with "
    "clean accuracy, with their 95% intervals (Fisher's)."
)
_ABOVE = (
    " Above controls: of how many models the score is significantly better than all controls that were measured (‡ in "
    "the tables if not); where they are few, what correlates says no more of the models than those do."
)
_PAPER = " Published: Kim, Seo & Jeon 2019, 21 models a series, at their scale."


Verdicts = dict[tuple[str, ...], bool]
"""(model, training, metric, settings, threat, measure) -> whether the score beats its controls."""


class Trend(NamedTuple):
    """A measure over the models of one series."""

    series: str
    """The training without its radius, a reconstruction with its dagger: "pgd_at (Linf)", "pgd_at (Linf), mlp" where
    there are several architectures."""
    norm: str
    label: str
    metric: str
    params: str
    threat: str
    measure: str
    models: pd.DataFrame
    """One row a model: its names, strength (the radius), accuracy, value, low, high, n images, in order of strength."""

    def correlations(self) -> dict[str, tuple[Correlation, Correlation]]:
        """Pearson and Spearman with "strength" and with "accuracy"."""
        values = self.models["value"]
        return {
            other: (pearson(self.models[other], values), spearman(self.models[other], values))
            for other in ("strength", "accuracy")
        }

    def stated(self) -> kim2019.Figures | None:
        """What Kim, Seo & Jeon 2019 print for this series and measure."""
        return kim2019.figures(self.series, self.norm, self.metric, self.params)

    def above(self, verdicts: Verdicts) -> tuple[int, int]:
        """How many models beat their controls, of how many that have some."""
        measure = (self.metric, self.params, self.threat, self.measure)
        names = self.models[["model", "trainer"]].itertuples(index=False)
        keys = [(*name, *measure) for name in names]
        found = [verdicts[key] for key in keys if key in verdicts]
        return sum(found), len(found)


def above_controls(run: Run) -> Verdicts:
    """Whether a score beats its controls, of all that have some in the tables of a run of one data set."""
    cells = table(run, "all", EVERYTHING).by_key()
    return {key: not cell.unbeaten for key, cell in cells.items() if cell.judged}


def trends(records: pd.DataFrame) -> list[Trend]:
    """Every measure over every series of one data set's records."""
    heads = labelled(apart(records[records["headline"].astype(bool) & records["at"].isna()]))
    pool = pooled(heads, ["model", "trainer", "train_threat", *MEASURE])
    accuracies = pooled(clean(records), ["model", "trainer"])[["model", "trainer", "value"]]
    pool = pool.merge(
        accuracies.rename(columns={"value": "accuracy"}), how="left", on=["model", "trainer"]
    )
    found = [threat(text) or ("", 0.0) for text in map(str, pool["train_threat"])]
    pool["norm"], pool["strength"] = [norm for norm, _ in found], [eps for _, eps in found]
    daggers = records.groupby(["model", "trainer"])["reconstruction"].any()
    labels = zip(pool["model"], pool["trainer"], map(str, pool["train_threat"]), found, strict=True)
    names = usual_names(list(daggers.index))
    pool["series"] = [
        names[model, trainer].replace(written, norm) + "†" * bool(daggers[model, trainer])
        for model, trainer, written, (norm, _) in labels
    ]
    return list(_trends(pool))


def _trends(pool: pd.DataFrame) -> Iterator[Trend]:
    attacked = pool[pool["norm"] != ""]
    for (model, series, norm), members in attacked.groupby(["model", "series", "norm"], sort=False):
        plain = pool[(pool["model"] == model) & (pool["trainer"] == "standard")]
        for key, rows in pd.concat([plain, members]).groupby(MEASURE, sort=False):
            facts = dict(zip(MEASURE, map(str, key), strict=True))
            rows = rows[rows["value"].notna()]  # a failed cell is no point of a series
            radii = rows.loc[rows["strength"] > 0, "strength"].nunique()
            # what a training costs does not depend on its radius
            told = facts["metric"] != "clean_accuracy" and facts["family"] != "cost"
            if told and radii >= FEWEST:
                chosen = rows.sort_values("strength")[list(_MODELS)]
                heading = f"{facts['label']} {facts['threat']}".strip()
                named = {name: facts[name] for name in ("metric", "params", "threat", "measure")}
                yield Trend(str(series), str(norm), heading, **named, models=chosen)


def grids(run: Run) -> list[Grid]:
    """A table for each data set that has a series, with the paper's figures beside those of its own suite."""
    return [
        _grid(name, found, above_controls(part), paper=kim2019.applies(run, name))
        for name, part in run.by_dataset().items()
        if (found := trends(part.records))
    ]


def _grid(dataset: str, found: list[Trend], verdicts: Verdicts, paper: bool) -> Grid:
    above = [trend.above(verdicts) for trend in found]
    judged = any(known for _, known in above)
    columns = [f"{kind}, {other}" for other in ("strength", "accuracy") for kind in _KINDS]
    heads = [text for column in columns for text in ([column, "published"] if paper else [column])]
    note = f" †: {DAGGER}" * any(trend.series.endswith("†") for trend in found)
    return Grid(
        "trends", dataset, f"Trends over attack strength on {dataset_title(dataset)}",
        ("Training", "Measure", "Models", *["Above controls"] * judged, *heads),
        tuple(
            _row(trend, [f"{beating} of {known}" if known else "–"] * judged, paper)
            for trend, (beating, known) in zip(found, above, strict=True)
        ),
        _CAPTION + _ABOVE * judged + _PAPER * paper + note,
        numbers=frozenset(range(2, 3 + judged + len(heads))),
        cuts=(3 + judged + len(heads) // 2,),
    )  # fmt: skip


def _row(trend: Trend, above: list[str], paper: bool) -> tuple[str, ...]:
    stated = trend.stated() if paper else None
    cells = [norm_sign(trend.series), norm_sign(trend.label), str(len(trend.models)), *above]
    for other, pair in trend.correlations().items():
        for i, correlation in enumerate(pair):
            cells.append(_written(correlation))
            if paper:
                cells.append(f"{getattr(stated, other)[i]:.2f}" if stated else "–")
    return tuple(cells)


def _written(correlation: Correlation) -> str:
    if pd.isna(correlation.value):
        return "–"
    interval = f" [{correlation.low:.2f}, {correlation.high:.2f}]"
    return f"{correlation.value:.2f}" + interval * (not pd.isna(correlation.low))
