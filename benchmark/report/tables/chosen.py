"""Which columns of a run the words of a list choose (columns.py), and which words the short table has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmark.report.names import FAMILIES, family_order
from benchmark.report.pooling import MEASURE
from benchmark.report.series import threat
from benchmark.report.tables.beside import Key, hosted
from benchmark.report.tables.columns import MAIN, Choice, choice

EVERYTHING = ("*",)
"""Every headline measure, by family."""

_FEW = 8
"""Headline measures up to which the short table has them all."""
_NORMS = ("", "Linf", "L2", "L1")
_CORE = ("robustness", "fidelity", "manifold", "sharpness")
"""Families that the short table says something of, if the run does."""


def chosen(records: pd.DataFrame, words: Sequence[str]) -> tuple[list[Key], list[str]]:
    """The columns (in the order of `MEASURE`) that the words choose, in their order, and the words that choose none.

    What is a control of another column is chosen only by a word that names its map, as in `gini:sobel`.
    """
    every = _every(records)
    shown = _without_hosted(every)
    if tuple(words) == EVERYTHING:
        return [_key(column) for column in shown if column["headline"]], []
    found: dict[Key, None] = {}
    absent = []
    for word in words:
        one = choice(word)
        taken = [column for column in every if one.takes(column)]
        own = [_key(column) for column in taken if column in shown or one.names_map(column)]
        found |= dict.fromkeys(own)
        if not own:
            absent.append(word)
    return list(found), absent


def grouped(keys: Sequence[Key]) -> list[Key]:
    """The columns by family, in the order of a paper, and within a family by the threat of the evaluation."""
    order = family_order([key[0] for key in keys])
    return sorted(keys, key=lambda key: (order.index(key[0]), *_threat(key[4])))


def main_words(records: pd.DataFrame) -> tuple[str, ...]:
    """The words of the short table of these records, all of which choose something.

    Everything where that is little. Otherwise what most papers show (`MAIN`), PGD where there is no AutoAttack, the
    first measure of a main family that would be left out, and all of users' own metrics.
    """
    headline = [column for column in _without_hosted(_every(records)) if column["headline"]]
    if len(headline) <= _FEW:
        return EVERYTHING
    words = [word for word in MAIN if _any(choice(word), headline)]
    if "auto_attack" not in words and _any(choice("pgd"), headline):
        words.append("pgd")
    shown = {column["family"] for column in headline if any(choice(w).takes(column) for w in words)}
    for column in headline:
        if column["family"] in _CORE and column["family"] not in shown:
            shown.add(column["family"])
            words.append(str(column["metric"]))
    own = dict.fromkeys(c["family"] for c in headline if c["family"] not in FAMILIES)
    words += [f"{family}/*" for family in own]
    return tuple(words)


def _every(records: pd.DataFrame) -> list[dict[str, Any]]:
    """A line for every column that the records could fill; curves are none."""
    whole = records[records["at"].isna() & (records["family"] != "preflight")]
    lines = whole.drop_duplicates(MEASURE)[[*MEASURE, "headline"]].to_dict("records")
    return [{str(name): value for name, value in line.items()} for line in lines]


def _without_hosted(columns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    beside = hosted(map(_key, columns))
    return [column for column in columns if _key(column) not in beside]


def _key(column: dict[str, Any]) -> Key:
    return tuple(str(column[name]) for name in MEASURE)


def _any(one: Choice, columns: Sequence[dict[str, Any]]) -> bool:
    return any(one.takes(column) for column in columns)


def _threat(text: str) -> tuple[int, float]:
    """Norms in the order of a paper, radii by size; what is under no threat first."""
    norm, eps = threat(text) or ("", 0.0)
    return (_NORMS.index(norm) if norm in _NORMS else len(_NORMS), eps)
