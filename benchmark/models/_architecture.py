"""Architectures by name, and the settings they take, read from their source. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from benchmark.cards import Card, cards, nearest
from benchmark.errors import BenchError


class SpecError(BenchError):
    """A model is named in a way that cannot work; one line that says what came and what would be valid."""


def check_architecture(name: str) -> Card:
    """The architecture's card; SpecError that names the nearest unless there is one of this name."""
    if name not in cards("models"):
        raise SpecError(f"unknown architecture {name!r}{nearest(name, list(cards('models')))}")
    return cards("models")[name]


def options(architecture: str) -> tuple[str, ...]:
    """The integer settings an architecture takes beside those common to all."""
    names = (parameter.name for parameter in check_architecture(architecture).parameters)
    return tuple(name for name in names if name != "activation")


def check_options(architecture: str, names: Iterable[str]) -> None:
    """SpecError unless the architecture takes all of these settings."""
    valid = options(architecture)
    for name in names:
        if name not in valid:
            raise SpecError(f"{architecture} has no option {name!r}{nearest(name, valid)}")
