"""Where the numbers come from and whom to cite, as the page shows it.

The manifest may be of any version: nothing in it is taken for granted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from benchmark.cards import Card, cards
from benchmark.report.citations import trainer_card
from benchmark.report.origin import mapping


class Block(NamedTuple):
    """Facts under one heading: (term, text)."""

    title: str
    facts: tuple[tuple[str, str], ...]


def provenance(manifest: Mapping[str, Any]) -> list[Block]:
    """What made the results: a block for the data, and one for every invocation that computed something."""
    blocks = [Block("Data", tuple(_data(mapping(manifest.get("data")))))]
    listed = manifest.get("invocations")
    invocations = (
        [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    )
    computed = [one for one in invocations if one.get("done", 1)]
    for i, one in enumerate(computed, start=1):
        title = "Run" if len(computed) == 1 else f"Run {i} of {len(computed)}"
        blocks.append(Block(title, tuple(_invocation(one))))
    seconds = [s for s in mapping(manifest.get("seconds")).values() if isinstance(s, (int, float))]
    if seconds:
        spent = f"{sum(seconds):,.0f} s of {len(seconds)} jobs, the longest {max(seconds):,.0f} s"
        blocks.append(Block("Time", (("Work", spent),)))
    return [block for block in blocks if block.facts]


def command(manifest: Mapping[str, Any]) -> str:
    """The command of the last invocation that computed something; "" if unknown."""
    runs = [block for block in provenance(manifest) if block.title.startswith("Run")]
    return dict(runs[-1].facts).get("Command", "") if runs else ""


class Cited(NamedTuple):
    """A method of the run and the paper it is from."""

    kind: str
    name: str
    paper: str


def cited(records: pd.DataFrame) -> list[Cited]:
    """The papers of the training methods and of the measures of these records."""
    trainers = [card.name for label in records["trainer"].unique() if (card := trainer_card(label))]
    return [
        *_papers("training", cards("trainers"), trainers),
        *_papers("measure", cards("metrics"), list(records["metric"].unique())),
    ]


def _papers(kind: str, known: Mapping[str, Card], names: list[str]) -> Iterator[Cited]:
    for name in dict.fromkeys(names):
        if name in known and "Paper" in known[name].sections:
            yield Cited(kind, name, " ".join(known[name].sections["Paper"].split()))


def _data(datasets: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, facts in datasets.items():
        parts = [
            f"{key} {value}" for key, value in mapping(facts).items() if value not in ("", None)
        ]
        yield str(name), ", ".join(parts)


_FACTS = {
    "command": "Command", "started": "Started", "ended": "Ended", "commit": "Commit",
    "workers": "Workers", "device": "Device", "done": "Jobs done", "failed": "Jobs failed",
    "machine": "Machine", "versions": "Versions",
}  # fmt: skip


def _invocation(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, term in _FACTS.items():
        value = one.get(key)
        if isinstance(value, Mapping):
            value = ", ".join(
                f"{name} {fact}" for name, fact in value.items() if fact not in ("", None)
            )
        if key == "commit" and str(value).endswith("+"):
            value = f"{value} (+: with changes that were not committed)"
        if value not in ("", None):
            yield term, str(value)
