"""What origins of third-party models state, and Kim, Seo & Jeon 2019 of its networks, beside what was measured here."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from benchmark.models.published import published
from benchmark.report import kim2019
from benchmark.report.grid import Grid
from benchmark.report.names import dataset_title, norm_sign, row_names
from benchmark.report.read import Run
from benchmark.report.trends import Trend, trends
from metrics.threat import ThreatModel, parse

_HEADINGS = ("", "Measure", "published", "measured", "images", "source")
CAPTION = (
    "Published accuracies are of all test images, measured ones of this run's images (with their 95% interval). In "
    "parentheses behind a published AutoAttack: the lowest accuracy under any attack, where one found less."
)

_PAPER = (
    "Published scores are read off the figures of Kim, Seo & Jeon 2019: of their networks, trained on all of CIFAR-10, "
    "at the same radius."
)
_SOURCE = "Kim, Seo & Jeon 2019"


class Line(NamedTuple):
    """One accuracy in percent that a model's origin states, with the record of the same measure here."""

    name: str
    what: str
    published: float
    lowest: float | None
    """The lowest robust accuracy that the origin knows of under any attack."""
    measured: float
    low: float
    high: float
    images: int
    source: str


def lines(records: pd.DataFrame) -> list[Line]:
    """Every published accuracy that this data set's records measured as well: same threat, same radius."""
    found = []
    for (model, trainer), name in row_names(records).items():
        stated = published(model) or {}
        own = records[(records["model"] == model) & (records["trainer"] == trainer)]
        for what, row in _measured(own, stated):
            clean = row["metric"] == "clean_accuracy"
            found.append(
                Line(
                    name, what, stated["clean" if clean else "autoattack"],
                    None if clean else stated.get("external"),
                    100 * row["value"], 100 * row["low"], 100 * row["high"],
                    int(row["n"]), str(stated.get("source", "")),
                )
            )  # fmt: skip
    return found


def grids(run: Run) -> list[Grid]:
    """A table for each data set that has such models, or is that of the paper's suite."""
    found = []
    for name, part in run.by_dataset().items():
        title = f"Published beside measured on {dataset_title(name)}"
        accuracies = tuple(_shown(line) for line in lines(part.records))
        scores = tuple(_scores(trends(part.records)) if kim2019.applies(run, name) else ())
        if rows := accuracies + scores:
            caption = " ".join([CAPTION] * bool(accuracies) + [_PAPER] * bool(scores))
            numbers = frozenset({2, 4})
            found.append(Grid("published", name, title, _HEADINGS, rows, caption, numbers=numbers))
    return found


def _scores(series: Iterable[Trend]) -> Iterator[tuple[str, ...]]:
    """Rows of the scores whose figures the paper prints: of standard training once, then of the strongest."""
    rows: dict[tuple[str, str], tuple[str, ...]] = {}
    for trend in series:
        if stated := trend.stated():
            for at, score in ((0.0, stated.standard), (stated.radius, stated.strongest)):
                for row in trend.models[trend.models["strength"] == at].to_dict("records"):
                    name = norm_sign(str(row["trainer"]))
                    measured = f"{row['value']:.4f} ({row['low']:.4f} to {row['high']:.4f})"
                    cells = (f"{score:.4f}", measured, str(int(row["n"])), _SOURCE)
                    rows[name, trend.label] = (name, trend.label, *cells)
    yield from sorted(rows.values(), key=lambda row: row[0] != "standard")


def _measured(
    own: pd.DataFrame, stated: dict[str, Any]
) -> Iterator[tuple[str, Mapping[Hashable, Any]]]:
    headline = own[own["headline"].astype(bool) & own["value"].notna()]
    for row in headline.to_dict("records"):
        if row["metric"] == "clean_accuracy" and "clean" in stated:
            yield "clean", row
        usual = row["metric"] == "auto_attack" and row["params"] == ""
        if (
            usual
            and "autoattack" in stated
            and parse(row["threat"]) == _threat(row["model"], stated)
        ):
            yield f"AutoAttack, {row['threat']}", row


def _threat(model: str, stated: dict[str, Any]) -> ThreatModel:
    """`robustbench:cifar10/Linf/NAME` with the eps that is stated for it."""
    return parse(f"{model.split('/')[1]} {stated['eps']}")


def _shown(line: Line) -> tuple[str, ...]:
    measured = f"{line.measured:.2f} ({line.low:.2f} to {line.high:.2f})"
    published = f"{line.published:.2f}"
    if line.lowest is not None and line.lowest < line.published:
        published += f" ({line.lowest:.2f})"
    return line.name, line.what, published, measured, str(line.images), line.source
