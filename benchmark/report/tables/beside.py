"""Which columns of a run are controls of which: measures of the same metric, or the same metric with another map."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from benchmark import controls
from benchmark.controls import CONTROLS
from benchmark.report.pooling import MEASURE
from benchmark.report.tables.columns import settings

Key = tuple[str, ...]
"""A column of the records, in the order of `MEASURE`."""

_USUAL = "gradient"
"""The map of a user's own metric that is told no other: its card, which has the default, is not read here."""


def control(metric: str, params: str) -> str:
    """The name of the control whose map a column scores; "" for a map of the model's own."""
    return controls.control(str(settings(metric, params).get("attribution", "")))


def control_columns(records: pd.DataFrame, keys: Iterable[Key]) -> dict[Key, dict[str, Key]]:
    """Column -> control -> the column that holds the control's score."""
    known = [tuple(map(str, key)) for key in records[MEASURE].drop_duplicates().to_numpy(object)]
    attributed = _attributed(known)
    return {key: _measured(key, known) | attributed.get(key, {}) for key in keys}


def hosted(keys: Iterable[Key]) -> frozenset[Key]:
    """The columns that are controls of another one of these, beside which they are shown."""
    return frozenset(each for own in _attributed(list(keys)).values() for each in own.values())


def apart(records: pd.DataFrame) -> pd.DataFrame:
    """The records without the columns that are controls of others."""
    keys = [tuple(map(str, key)) for key in records[MEASURE].to_numpy(object)]
    beside = hosted(dict.fromkeys(keys))
    # typed, for of an empty list pandas would take columns
    return records[pd.Series([key not in beside for key in keys], records.index, dtype=bool)]


def _measured(key: Key, known: Sequence[Key]) -> dict[str, Key]:
    *of, measure = key
    own: dict[str, Key] = {name: (*of, f"{name}_{measure}") for name in CONTROLS}
    return {name: each for name, each in own.items() if each in known}


def _attributed(known: Sequence[Key]) -> dict[Key, dict[str, Key]]:
    """Column of a model's own maps -> control -> the column of the same metric and settings with that map."""
    given = {key: {"attribution": _USUAL, **settings(key[1], key[3])} for key in known}
    by_facts = {_facts(key, own): key for key, own in given.items()}
    found: dict[Key, dict[str, Key]] = {}
    for key, own in given.items():
        wanted = controls.attributions(str(own["attribution"])).items()
        facts = {name: _facts(key, {**own, "attribution": each}) for name, each in wanted}
        found[key] = {name: by_facts[each] for name, each in facts.items() if each in by_facts}
    return found


def _facts(key: Key, given: Mapping[str, object]) -> Key:
    """What tells a column from others, whatever its heading."""
    family, metric, _, _, threat, measure = key
    return (family, metric, json.dumps(given, sort_keys=True, default=str), threat, measure)
