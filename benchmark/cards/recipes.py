"""How a data set is trained on: its recipe, recipes that have a name, its own settings of trainers. No torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from benchmark.cards import cards
from benchmark.datasets.defaults import Defaults
from trainers.recipe import Recipe

Settings = Mapping[str, Mapping[str, Any]]
"""Trainer -> its settings."""


def facts(known: Defaults) -> dict[str, Any]:
    """Every recipe with all of its keys, and what trainers are set to where that is not their default."""
    return {
        "recipe": _whole(known.recipe),
        "trainers": _changed(known.trainers),
        "recipes": {
            name: {"recipe": _whole(named.recipe), "trainers": _changed(named.trainers)}
            for name, named in known.recipes.items()
        },
    }


def text(known: Defaults) -> str:
    """The same for readers: of a named recipe only what differs from the data set's own."""
    found = facts(known)
    blocks = [_block("Recipe:", found["recipe"], {})]
    if found["trainers"]:
        blocks.append(
            _block("Settings of trainers that are not their defaults:", {}, found["trainers"])
        )
    for name, named in found["recipes"].items():
        differing = _without(named["recipe"], found["recipe"])
        title = f'Recipe named = "{name}", where it differs:'
        blocks.append(_block(title, differing, _beyond(named["trainers"], found["trainers"])))
    return "\n\n".join(blocks)


def _whole(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return dataclasses.asdict(Recipe(**recipe))


def _changed(trainers: Settings) -> dict[str, dict[str, Any]]:
    """What is not the default that the trainer's card names."""
    usual = {
        name: {p.name: p.default for p in cards("trainers")[name].parameters} for name in trainers
    }
    return _beyond(trainers, usual)


def _beyond(trainers: Settings, usual: Settings) -> dict[str, dict[str, Any]]:
    left = {name: _without(given, usual.get(name, {})) for name, given in trainers.items()}
    return {name: given for name, given in left.items() if given}


def _without(given: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key not in usual or usual[key] != value}


def _block(title: str, recipe: Mapping[str, Any], trainers: Settings) -> str:
    own = [f"{name}: {_pairs(given)}" for name, given in trainers.items()]
    return "\n  ".join([title, *(_pairs({key: recipe[key]}) for key in recipe), *own])


def _pairs(given: Mapping[str, Any]) -> str:
    """As a suite writes them."""
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in given.items())
