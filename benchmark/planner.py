"""A suite becomes a plan. Every name and setting is checked here.

Nothing is trained or loaded, and torch is not imported.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmark.cards import Card, CardError, Kind, card, nearest
from benchmark.cards.signatures import Parameter
from benchmark.controls import beside
from benchmark.datasets.defaults import Defaults, NamedRecipe, UnknownDataset, defaults
from benchmark.models import spec
from benchmark.models._code_spec import own_network
from benchmark.plan import Cell, DataSpec, Part, Plan, Training
from benchmark.suite import Entry, Suite, SuiteError, expanded, misplaced
from metrics import threat as threats
from metrics.threat import ThreatModel
from trainers.recipe import Recipe


def plan(suite: Suite) -> Plan:
    """The cells of a suite; SuiteError names the first thing that cannot be run."""
    try:
        facts = defaults(suite.dataset)
    except UnknownDataset as error:
        raise SuiteError(f"{suite.file}: dataset: {error}") from None
    planner = _Planner(suite, facts)
    trainings = tuple(_distinct(planner.trainings(), suite.file))
    metrics = tuple(dict.fromkeys(planner.metrics()))
    _check_stems(suite)
    seeds = {training.seed for training in trainings}
    others = {(m, t, s): tuple(planner.surrogates(m, t, s)) for m, t in metrics for s in seeds}
    cells = tuple(
        Cell(training, metric, threat, others[metric, threat, training.seed])
        for training in trainings
        for metric, threat in metrics
    )
    for name in suite.gallery.attributions:
        planner.named("gallery.attributions", "attributions", name)
    if not trainings:
        raise SuiteError(f"{suite.file}: no model to measure; name a [[trainer]] or a model")
    return Plan(suite, planner.data, trainings, cells)


def _distinct(trainings: Iterator[Training], file: str) -> Iterator[Training]:
    """Each training once, by its first name; SuiteError if two different ones would have one name in the tables."""
    seen: dict[tuple[str, str, int], Training] = {}
    known: set[Training] = set()
    for training in trainings:
        name = (training.model, training.label, training.seed)
        if seen.setdefault(name, training) != training:
            raise SuiteError(f"{file}: two different trainings are called {training.label!r}")
        nameless = dataclasses.replace(training, label="")
        if nameless not in known:
            known.add(nameless)
            yield training


def _surrogate_setting(metric: Card) -> Parameter | None:
    """The setting in which a metric names trainers, if it asks the case for these trainers' models."""
    from benchmark.keys import attributes

    named = (p for p in metric.parameters if p.name in ("source", "referee"))
    found = next((p for p in named if p.annotation in ("str", "tuple[str, ...]")), None)
    return found if found and "surrogate" in attributes(metric.path) else None


def _setting(found: Card, key: str, value: object) -> Parameter:
    """The setting of this name; CardError says where it belongs if it is another thing's."""
    of_threat = {"eps", "epsilon", "radius", "norm"} - {p.name for p in found.parameters}
    if found.needs_threat and key in of_threat:
        usual = value if isinstance(value, int | float) else "8/255"
        raise CardError(
            f"{found.name} has no setting {key!r}: norm and radius are its threat, as in threat = 'Linf {usual}'"
        )
    if key not in [p.name for p in found.parameters] and misplaced(key):
        raise CardError(f"{found.name} has no setting {key!r}{misplaced(key)}")
    return found.parameter(key)


def _check_stems(suite: Suite) -> None:
    """SuiteError if two files of the user's define methods of one name: they would share a row or column."""
    for place, entries in (("trainer", suite.trainer), ("metric", suite.metric)):
        paths = {entry.name for entry in entries if entry.name.endswith(".py")}
        by_stem: dict[str, str] = {}
        for path in sorted(paths):
            stem = Path(path).stem
            if stem in by_stem:
                raise SuiteError(
                    f"{suite.file}: {place}: {by_stem[stem]} and {path} have one name; rename one"
                )
            by_stem[stem] = path


def threat(text: str, own: Mapping[str, str]) -> ThreatModel:
    """A threat as suites write it: "Linf" (the data set's own radius), "Linf *0.5" (half of it), "Linf 8/255"."""
    norm, _, written = text.strip().partition(" ")
    if norm in own and (not written or written.startswith("*")):
        standard = threats.parse(f"{norm} {own[norm]}")
        return standard.scaled(_factor(text, written[1:])) if written else standard
    return threats.parse(text)


def _factor(text: str, written: str) -> float:
    try:
        return float(written)
    except ValueError:
        raise ValueError(f"threat {text!r} needs a number after *, as in 'Linf *0.5'") from None


_EMPTY = "[]: an empty grid, for which nothing would run; give a value, or a list of them"
_NO_GRID = "a recipe takes one value, it is no grid; write a [[trainer]] for each, with recipe = {{ {} = ... }}"


class _Planner:
    """The suite and the facts of its data set, asked for trainings and metrics."""

    def __init__(self, suite: Suite, facts: Defaults) -> None:
        self.suite, self.facts = suite, facts
        self.data = DataSpec(suite.dataset, suite.train_limit, suite.limit, suite.split)
        # the last epoch counts, as in Kim, Seo & Jeon: a retraining has no validation of its own
        self.reference = dataclasses.replace(self.recipe("retrain", suite.retrain), keep="last")
        try:
            self.threat = threat(suite.threat, facts.threats)
        except ValueError as error:
            raise SuiteError(f"{suite.file}: threat: {error}") from None

    def trainings(self) -> Iterator[Training]:
        """Third-party models first, then every trainer, grid point, threat and seed."""
        yield from map(self._pretrained, self.suite.model)
        for number, entry in expanded(self.suite.trainer, "trainers"):
            place = f"trainer[{number}]"
            for part, level in self._grid(place, entry, "trainers"):
                for seed in self.suite.seeds:
                    yield self._training(part, level, entry, place, seed)

    def _pretrained(self, text: str) -> Training:
        try:
            found = spec.parse(text)
        except spec.SpecError as error:
            raise SuiteError(f"{self.suite.file}: model: {error}") from None
        return Training(
            self.data, found.text, None, None, None, None, 0, "pretrained", self.reference
        )

    def _training(
        self, part: Part, level: ThreatModel | None, entry: Entry, place: str, seed: int
    ) -> Training:
        recipe = self.recipe(f"{place}.recipe", entry.recipe)
        return Training(
            self.data, recipe.architecture, part, recipe, level, level or self.threat,
            seed, self._label(part, level, entry, place), self.reference,
        )  # fmt: skip

    def metrics(self) -> Iterator[tuple[Part, ThreatModel | None]]:
        """Every metric, grid point and threat, each with its controls."""
        for number, entry in expanded(self.suite.metric, "metrics"):
            place = f"metric[{number}]"
            if entry.recipe:
                raise SuiteError(f"{self.suite.file}: {place}: a metric has no recipe")
            for part, level in self._grid(place, entry, "metrics"):
                yield part, level
                yield from ((each, level) for each in beside(part, self.suite.controls))

    def surrogates(self, metric: Part, level: ThreatModel | None, seed: int) -> Iterator[Training]:
        """What the setting `source` (or `referee`) of a metric names, without "own", the model itself."""
        if setting := _surrogate_setting(metric.card):
            value = dict(metric.settings).get(setting.name, setting.default)
            place = f"{metric.card.name}.{setting.name}"
            for name in value if isinstance(value, tuple) else (str(value),):
                if name != "own":
                    yield self._surrogate(place, name, level, seed)

    def _surrogate(self, place: str, name: str, level: ThreatModel | None, seed: int) -> Training:
        """A third-party model of the suite, or what a trainer makes.

        The trainer is as the suite's first entry of it is, but for its threat, which is the metric's; without an entry
        it has the suite's recipe. So it is the very training of the run, and done once, where the run has one like it.
        """
        if name in self.suite.model:
            return self._pretrained(name)
        if name.partition(":")[0] in spec.FORMS:
            known = ", ".join(self.suite.model) or "none"
            raise SuiteError(
                f"{self.suite.file}: {place}: {name!r} is no model of the suite ({known}); add it to model"
            )
        found = self.named(place, "trainers", name)
        entries = (e for _, e in expanded(self.suite.trainer, "trainers") if e.name == name)
        entry = next(entries, Entry(name=name)).model_copy(update={"threat": None})
        part, standard = next(self._grid(place, entry, "trainers"))
        threat = (level or standard) if found.needs_threat else None
        return self._training(part, threat, entry, place, seed)

    def recipe(self, place: str, changes: Mapping[str, Any]) -> Recipe:
        """The data set's recipe (or the named one), changed by the suite, changed by the entry."""
        fields = {field.name for field in dataclasses.fields(Recipe)}
        values = {**self._base(place, changes).recipe, **self.suite.recipe, **changes}
        values.pop("named", None)
        for name in values:
            if name not in fields:
                raise SuiteError(
                    f"{self._told(place, changes, name)}: unknown key {name!r}"
                    f"{misplaced(name) or nearest(name, list(fields))}"
                )
        given = self._given(place, changes, "architecture")
        self._check_network(f"{given}.architecture", values)
        try:
            return TypeAdapter(Recipe).validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            problem = error.errors()[0]
            key, value = ".".join(map(str, problem["loc"])), problem["input"]
            why = _NO_GRID.format(key) if isinstance(value, list) else problem["msg"]
            raise SuiteError(
                f"{self._told(place, changes, key)}: {key} = {value!r}: {why}"
            ) from None

    def _check_network(self, place: str, recipe: Mapping[str, Any]) -> None:
        """SuiteError unless the architecture is one of ours, or a function of a file that has its own activations."""
        architecture = str(recipe["architecture"])
        try:
            own = own_network(architecture)
        except spec.SpecError as error:
            raise SuiteError(f"{self.suite.file}: {place} = {architecture!r}: {error}") from None
        if not own:
            self.named(place, "models", architecture)
        elif recipe.get("activation", "relu") != "relu":
            raise SuiteError(
                f"{self.suite.file}: {place} = {architecture!r}: activation = {recipe['activation']!r} is for networks "
                "of ours; this one's are in its code"
            )

    def _given(self, place: str, changes: Mapping[str, Any], key: str) -> str:
        """Where a key of a recipe stands: in these changes, or in the suite's own."""
        return place if key in changes else "recipe"

    def _told(self, place: str, changes: Mapping[str, Any], key: str) -> str:
        """The same with the file's name, as errors begin."""
        return f"{self.suite.file}: {self._given(place, changes, key)}"

    def _base(self, place: str, changes: Mapping[str, Any]) -> NamedRecipe:
        """The recipe that is changed, with the settings of trainers that go with it."""
        given = {**self.suite.recipe, **changes}
        if "named" not in given:
            return NamedRecipe(self.facts.recipe, self.facts.trainers)
        name, known = given["named"], self.facts.recipes
        if name not in known:
            raise SuiteError(
                f"{self._told(place, changes, 'named')}: {self.facts.name} has no recipe named {name!r}"
                f"{nearest(str(name), list(known))}"
            )
        return known[name]

    def named(self, place: str, kind: Kind, name: str) -> Card:
        """The card of a name in the suite; SuiteError if there is none."""
        try:
            return card(kind, name)
        except CardError as error:
            raise SuiteError(f"{self.suite.file}: {place}: {error}") from None

    def _grid(
        self, place: str, entry: Entry, kind: Kind
    ) -> Iterator[tuple[Part, ThreatModel | None]]:
        found = self.named(place, kind, entry.name)
        base = self._base(f"{place}.recipe", entry.recipe)
        own = base.trainers.get(entry.name, {}) if kind == "trainers" else {}
        settings = {**own, **entry.settings}
        levels = self._threats(f"{place}.threat", found, entry)
        choices = [self._choices(place, found, key, value) for key, value in settings.items()]
        plain = Part(kind, entry.name, ())
        for values in product(*choices):
            part = plain.changed(**dict(zip(settings, values, strict=True)))
            for level in levels:
                yield part, level

    def _choices(self, place: str, found: Card, key: str, value: object) -> list[object]:
        """The values of a setting: a list is a grid (a list of lists where one value is itself a list)."""
        try:
            parameter = _setting(found, key, value)
            is_grid = isinstance(value, list) and (
                not parameter.takes_list or (bool(value) and isinstance(value[0], list))
            )
            if is_grid and not value:
                raise CardError(f"{key} = {_EMPTY}")
            values: Sequence[object] = value if is_grid else [value]  # type: ignore[assignment]
            return [parameter.check(each) for each in values]
        except CardError as error:
            raise SuiteError(f"{self.suite.file}: {place}: {error}") from None

    def _threats(self, place: str, found: Card, entry: Entry) -> list[ThreatModel | None]:
        if not found.needs_threat:
            if entry.threat is not None:
                raise SuiteError(f"{self.suite.file}: {place}: {found.name} takes no threat")
            return [None]
        written = self.suite.threat if entry.threat is None else entry.threat
        if written == []:
            raise SuiteError(f"{self.suite.file}: {place} = {_EMPTY}")
        try:
            levels = [
                threat(text, self.facts.threats)
                for text in ([written] if isinstance(written, str) else written)
            ]
        except ValueError as error:
            raise SuiteError(f"{self.suite.file}: {place}: {error}") from None
        wrong = [level for level in levels if found.norms and level.norm not in found.norms]
        # under the suite's own threat it has no meaning there, which its row says
        if wrong and entry.threat is not None:
            valid = " or ".join(found.norms)
            raise SuiteError(
                f"{self.suite.file}: {place}: {found.name} is under {valid} alone, got {wrong[0]}"
            )
        return list(levels)

    def _label(self, part: Part, level: ThreatModel | None, entry: Entry, place: str) -> str:
        """The trainer's name with its threat, what differs from the data set's own settings, and what the entry varies:
        of a grid the default says its value, too."""
        recipe = entry.recipe
        usual = {p.name: p.default for p in part.card.parameters}
        given = usual | dict(part.settings)
        usual |= self._base("recipe", recipe).trainers.get(part.reference, {})
        varied = {
            name
            for name, value in entry.settings.items()
            if len(self._choices(place, part.card, name, value)) > 1
        }
        shown = {k: v for k, v in given.items() if v != usual[k] or k in varied}
        # a row names its architecture anyway
        shown |= {k: v for k, v in recipe.items() if k not in ("architecture", "named")}
        details = [str(level)] if level else []
        details += [recipe["named"]] if "named" in recipe else []
        details += [f"{key}={value}" for key, value in shown.items()]
        name = part.card.label(dict(part.settings))
        return f"{name} ({', '.join(details)})" if details else name
