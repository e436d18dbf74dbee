"""Which columns a table has: sets of them by name, and the words that a suite's own tables choose them with.

    [tables.paper]
    title = "Robustness and fidelity"          # optional
    columns = ["clean_accuracy", "auto_attack@Linf", "roar:gradient", "pgd.margin", "sharpness/*", "cost"]

A word is `METRIC`, and if need be `.MEASURE` (another than the metric's headline), `:SETTING` (a value as in
`roar:gradient`, or `NAME=VALUE` as in `pgd:steps=100`, a list as in `roar:percents=30/70`; several with commas
between them) and `@THREAT` (`@Linf` for
every radius, `@Linf 8/255` for one). `FAMILY/*` are the headlines of a family, `cost` is what the training cost. A word
may choose several columns; they stand in the order of the words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from benchmark.cards import Card, cards, nearest
from benchmark.errors import BenchError
from benchmark.report.names import in_word

SETS: Mapping[str, tuple[str, ...]] = {
    "robustness": ("robustness/*",),
    "fidelity": ("fidelity/*", "sanity/*"),
    "alignment": ("manifold/*", "localisation/*"),
    "sharpness": ("sharpness/*", "stability/*"),
}
"""The sets by family; `main`, `cost` (the trainings' own table) and `all` are beside them."""

NAMES = ("main", *SETS, "cost", "all")

GRIDS = ("trends", "published", "health")
"""Tables of another kind, whose columns nobody chooses."""

MAIN = (
    "clean_accuracy",
    "auto_attack",
    "roar:gradient",
    "kar:gradient",
    "pixel_flipping:gradient",
    "tangent_fraction:gradient",
    "reconstruction_distance",
    "gini:gradient",
    "cost",
)
"""The short set: of every main family what most papers show."""

_WORD = re.compile(
    r"(?P<metric>[\w-]+)(?P<every>/\*)?(?:\.(?P<measure>\w+))?"
    r"(?::(?P<settings>[^@]+))?(?:@(?P<threat>.+))?"
)
_FAMILIES = ("cost", "own")
"""Families without metrics of the package's in them: what trainings cost, and users' own files."""


class ColumnError(BenchError):
    """A word that chooses no column; the message says what came and what would be valid."""


@dataclass(frozen=True)
class Choice:
    """A word, read: what is empty says nothing about the column."""

    word: str
    metric: str
    family: str
    measure: str
    settings: tuple[str, ...]
    threat: str

    def takes(self, column: Mapping[str, Any]) -> bool:
        """Whether a column is chosen: its `family`, `metric`, `params` (JSON), `threat`, `measure` and `headline`."""
        own = column["family"] == self.family if self.family else column["metric"] == self.metric
        if not own or not self._under(str(column["threat"])):
            return False
        right = column["measure"] == self.measure if self.measure else bool(column["headline"])
        return right and (not self.settings or self._set(str(column["params"])))

    def names_map(self, column: Mapping[str, Any]) -> bool:
        """Whether the word names the map of a column, as `gini:sobel` does."""
        own = str(settings(str(column["metric"]), str(column["params"])).get("attribution", ""))
        return any(setting in (own, f"attribution={own}") for setting in self.settings)

    def _under(self, threat: str) -> bool:
        return not self.threat or threat == self.threat or threat.startswith(f"{self.threat} ")

    def _set(self, params: str) -> bool:
        # a list as the tables show it, too: of several values a comma would end the setting
        values = {
            name: {str(value), in_word(value)}
            for name, value in settings(self.metric, params).items()
        }
        return all(
            value in values.get(name, ())
            if equals
            else any(setting in own for own in values.values())
            for setting in self.settings
            for name, equals, value in [setting.partition("=")]
        )


def choice(word: str) -> Choice:
    """A word of a column list; ColumnError if it is none."""
    match = _WORD.fullmatch(word.strip())
    if not match:
        raise ColumnError(
            f"{word!r} is not of the form METRIC[.MEASURE][:SETTING][@THREAT] or FAMILY/*, as in 'roar:gradient'"
        )
    settings = tuple(part.strip() for part in (match["settings"] or "").split(",") if part.strip())
    metric, family = ("", match["metric"]) if match["every"] else (match["metric"], "")
    threat = " ".join((match["threat"] or "").split())
    return Choice(word, metric, family, match["measure"] or "", settings, threat)


def check(word: str, own: Collection[str] = ()) -> None:
    """ColumnError unless the word can choose a column; `own` names users' metrics, which are not looked into."""
    one = choice(word)
    known = cards("metrics")
    if one.family:
        families = sorted({card.family for card in known.values()} | {*_FAMILIES})
        if one.family not in families:
            raise ColumnError(f"{word!r}: no family {one.family!r}{nearest(one.family, families)}")
        return
    if one.metric in (*own, "cost"):
        return
    if one.metric not in known:
        valid = [*known, *own, "cost"]
        raise ColumnError(f"{word!r}: no metric {one.metric!r}{nearest(one.metric, valid)}")
    _check_parts(one, known[one.metric])


def _check_parts(one: Choice, card: Card) -> None:
    measures = [measure.name for measure in card.measures if not measure.curve]
    if one.measure and one.measure not in measures:
        raise ColumnError(
            f"{one.word!r}: {card.name} has no measure {one.measure!r}{nearest(one.measure, measures)}"
        )
    names = [parameter.name for parameter in card.parameters]
    for name, equals, _ in (setting.partition("=") for setting in one.settings):
        if equals and name not in names:
            raise ColumnError(
                f"{one.word!r}: {card.name} has no setting {name!r}{nearest(name, names)}"
            )
    if one.threat and not card.needs_threat:
        raise ColumnError(f"{one.word!r}: {card.name} is measured under no threat")
    if one.threat and one.threat.split()[0] not in ("Linf", "L2", "L1"):
        raise ColumnError(
            f"{one.word!r}: no threat {one.threat!r}; valid: Linf, L2, L1, or one as in Linf 8/255"
        )


def settings(metric: str, params: str) -> dict[str, Any]:
    """All settings of a column: the records name those that are not the metric's defaults."""
    card = cards("metrics").get(metric)
    usual = {parameter.name: parameter.default for parameter in card.parameters} if card else {}
    try:
        return {**usual, **(json.loads(params) if params else {})}
    except ValueError:
        return usual
