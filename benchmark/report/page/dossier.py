"""The card of a model: where it comes from, how it was trained, and what speaks against its numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.cards import Card, cards
from benchmark.models.published import published
from benchmark.models.spec import origin
from benchmark.report import health
from benchmark.report import published as stated
from benchmark.report.page.board import Board, Line
from benchmark.report.read import Run

_STATED = {
    "architecture": "Architecture",
    "paper": "Paper",
    "licence": "Licence",
    "source": "Listed in",
}


@dataclass(frozen=True)
class Dossier:
    """One model with all that the page says of it beside its measures."""

    line: Line
    facts: tuple[tuple[str, str], ...]
    """(term, text)."""
    trainings: tuple[Mapping[str, Any], ...]
    """The rows of trainings.csv, one a seed."""
    findings: tuple[health.Line, ...]
    """What preflight and the verdict on masked gradients found, passed checks left out."""
    passed: int
    """Checks without a finding, over all seeds."""
    published: tuple[stated.Line, ...]


def dossiers(run: Run, board: Board) -> list[Dossier]:
    """The cards of one data set's models, in the order of the leaderboard."""
    found, methods = health.lines(run.records), cards("trainers")
    beside = stated.lines(run.records)
    weights = run.manifest.get("weights")
    return [
        _dossier(
            line,
            (*_origin(line, weights if isinstance(weights, Mapping) else {}),
             *_method(methods.get(line.kind)), *_recipe(_own(run.trainings, line))),
            _own(run.trainings, line),
            [f for f in found if (f.model, f.trainer) == (line.row.model, line.row.trainer)],
            [each for each in beside if each.name == line.row.name],
        )
        for line in board.lines
    ]  # fmt: skip


def _dossier(
    line: Line,
    facts: tuple[tuple[str, str], ...],
    trainings: pd.DataFrame,
    findings: list[health.Line],
    beside: list[stated.Line],
) -> Dossier:
    signs = [finding for finding in findings if finding.level != "PASS"]
    rows = tuple(
        {str(name): value for name, value in row.items()} for row in trainings.to_dict("records")
    )
    return Dossier(line, facts, rows, tuple(signs), len(findings) - len(signs), tuple(beside))


def _own(trainings: pd.DataFrame, line: Line) -> pd.DataFrame:
    if trainings.empty:
        return trainings
    same = (trainings["model"] == line.row.model) & (trainings["trainer"] == line.row.trainer)
    return trainings[same]


def _origin(line: Line, weights: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Who made the model; of a third party's, what is known of its file and its paper."""
    model = line.row.model
    if not line.third_party:
        yield "Source", f"trained by this run: {line.row.trainer}"
        yield "Architecture", model
        return
    yield "Source", model
    if model in weights:
        yield "sha256 of the weights", str(weights[model])
    known, given = published(model) or {}, origin(model)
    for name, term in _STATED.items():
        if name in known:
            yield term, str(known[name])
    if "source" in given:
        yield "From", given["source"]
    if "licence" in given:
        yield "Licence", f"{given['licence']} (as the specification states)"
    elif "licence" not in known:
        yield "Licence", "not stated: ask whoever gave you the file, and give licence=..."


def _method(card: Card | None) -> Iterator[tuple[str, str]]:
    """What the training method is; nothing of a user's own, whose file is not read."""
    if card is None:
        return
    yield "Method", card.summary
    for section in ("Formula", "Reconstruction", "Paper"):
        if section in card.sections:
            yield section, " ".join(card.sections[section].split())


def _recipe(trainings: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The recipe, where the training kept it; one for all seeds."""
    kept = trainings.get("recipe", pd.Series(dtype=object))
    texts = [text for text in kept if isinstance(text, str) and text]
    if texts:
        recipe = json.loads(texts[-1])
        yield "Recipe", ", ".join(f"{name} {value}" for name, value in recipe.items())
