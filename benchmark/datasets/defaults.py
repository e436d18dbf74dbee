"""What is known of each data set without loading it, from defaults.toml beside this file. No torch: plans use it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.cards import nearest
from benchmark.errors import BenchError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class UnknownDataset(BenchError):
    """No data set has this name; the message names the nearest."""


@dataclass(frozen=True)
class Defaults:
    """Shape, normalisation, threats and training recipe of a data set. `classes` and `images` are 0 for a folder."""

    name: str
    channels: int
    size: int
    classes: int
    images: dict[str, int]
    """Split -> number of images. A set of which some files are missing (CIFAR-10's batches) has fewer."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threats: dict[str, str]
    """Norm -> radius as typed ("8/255")."""
    recipe: dict[str, Any]
    """Fields of trainers.recipe.Recipe."""
    trainers: dict[str, dict[str, Any]]
    """Settings of trainers that this data set needs to be other than their defaults."""
    recipes: dict[str, NamedRecipe]
    """Named recipes, in the place of the data set's own: those of papers."""


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe of a paper: fields of trainers.recipe.Recipe, and the settings of trainers that go with it."""

    recipe: dict[str, Any]
    trainers: dict[str, dict[str, Any]]


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads((Path(__file__).parent / "defaults.toml").read_text(encoding="utf-8"))


def names() -> tuple[str, ...]:
    """The data sets, in the order of the file."""
    return tuple(_tables())


def defaults(name: str) -> Defaults:
    """What is known of a data set; "folder:PATH" is a folder. Raises UnknownDataset."""
    kind, colon, path = name.partition(":")
    if kind not in names() or bool(colon) != (kind == "folder") or (colon and not path):
        raise UnknownDataset(_unknown(name, kind))
    table = dict(_tables()[kind])
    mean, std = tuple(table.pop("mean")), tuple(table.pop("std"))
    # copies: the cached tables stay as the file has them
    threats, recipe = dict(table.pop("threats")), dict(table.pop("recipe"))
    images = dict(table.pop("images"))
    trainers = dict(table.pop("trainers", {}))
    recipes = {
        title: _named(fields, trainers) for title, fields in table.pop("recipes", {}).items()
    }
    return Defaults(
        name, images=images, mean=mean, std=std, threats=threats, recipe=recipe, trainers=trainers,
        recipes=recipes, **table,
    )  # fmt: skip


def _named(fields: dict[str, Any], trainers: dict[str, dict[str, Any]]) -> NamedRecipe:
    """A recipe with its own settings of trainers, on top of the data set's."""
    recipe = {name: value for name, value in fields.items() if name != "trainers"}
    own = fields.get("trainers", {})
    both = {name: {**trainers.get(name, {}), **own.get(name, {})} for name in {**trainers, **own}}
    return NamedRecipe(recipe, both)


def _unknown(name: str, kind: str) -> str:
    if kind == "folder":
        return f"data set {name!r} needs the path of its tree, as in 'folder:pictures'"
    valid = ["folder:PATH" if known == "folder" else known for known in names()]
    return f"unknown data set {name!r}{nearest(kind, valid)}"
