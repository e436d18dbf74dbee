"""What the origins of third-party models state, beside what was measured here."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from benchmark.models.published import published
from benchmark.report.grid import Grid
from benchmark.report.names import dataset_title, row_names
from benchmark.report.read import Run
from metrics.threat import ThreatModel, parse

_HEADINGS = ("", "Accuracy", "published", "measured", "images", "source")
CAPTION = (
    "Published accuracies are of all test images, measured ones of this run's images (with their 95% interval). In "
    "parentheses behind a published AutoAttack: the lowest accuracy under any attack, where one found less."
)


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
    """A table for each data set that has such models."""
    found = {name: lines(part.records) for name, part in run.by_dataset().items()}
    return [
        Grid(
            "published", name, f"Published beside measured on {dataset_title(name)}", _HEADINGS,
            tuple(_shown(line) for line in own), CAPTION, numbers=frozenset({2, 4}),
        )
        for name, own in found.items()
        if own
    ]  # fmt: skip


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
