"""What a run does: trainings, and cells, one metric of one model each. No torch is imported."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from benchmark.cards import Card, Kind, card
from benchmark.suite import Suite
from metrics.threat import ThreatModel
from trainers.recipe import Recipe


@dataclass(frozen=True)
class DataSpec:
    """A data set by name, and how many of its images are used (none: all)."""

    name: str
    train_limit: int | None
    limit: int | None
    split: Literal["test", "validation"] = "test"
    """Which images models are measured on."""


@dataclass(frozen=True)
class Part:
    """A trainer or metric with the settings it is given (those that differ from its defaults), in order of name."""

    kind: Kind
    reference: str
    """Name, or path of a user's file."""
    settings: tuple[tuple[str, Any], ...]

    @property
    def card(self) -> Card:
        """The method's card."""
        return card(self.kind, self.reference)

    def changed(self, **settings: Any) -> Part:
        """The method with other settings."""
        given = {**dict(self.settings), **settings}
        kept = {k: v for k, v in given.items() if v != self.card.parameter(k).default}
        return dataclasses.replace(self, settings=tuple(sorted(kept.items())))

    def __str__(self) -> str:
        return json.dumps(dict(self.settings)) if self.settings else ""


@dataclass(frozen=True)
class Training:
    """A model to be: trained here by a trainer and a recipe, or (without a trainer) loaded from someone's file."""

    data: DataSpec
    model: str
    """Architecture, or the specification of a third-party model."""
    trainer: Part | None
    recipe: Recipe | None
    threat: ThreatModel | None
    selection: ThreatModel | None
    """What the checkpoint is chosen under: its own threat, or the suite's for a method without one."""
    seed: int
    label: str
    """The training's name in tables: "pgd_at (Linf 0.1)", "pretrained"."""
    reference: Recipe
    """Recipe of the classifier that ROAR and KAR retrain: the same for every model of a plan."""


@dataclass(frozen=True)
class Cell:
    """One metric of one model under one threat."""

    training: Training
    metric: Part
    threat: ThreatModel | None
    surrogates: tuple[Training, ...] = ()
    """The other models of the same data that a metric asks for by its setting `source` (or `referee`), in its order."""


@dataclass(frozen=True)
class Plan:
    """All cells of a suite, in the order of the tables."""

    suite: Suite
    data: DataSpec
    trainings: tuple[Training, ...]
    cells: tuple[Cell, ...]
