"""The network that a training begins with. This file's code is in the key of every model that is trained here."""

from __future__ import annotations

from torch import nn

from benchmark.datasets.base import Dataset
from benchmark.datasets.defaults import Defaults, defaults
from benchmark.measuring.own_network import own
from benchmark.models._shape import Shape
from benchmark.models.base import build
from trainers.recipe import Recipe


def untrained(data: Dataset, name: str, recipe: Recipe, seed: int) -> nn.Module:
    """The recipe's architecture, or network of the user's own, for a data set, initialised by the seed."""
    facts = defaults(name)
    channels, size, _ = data.shape
    mean, std = normalisation(facts, recipe)
    shape = Shape(channels, len(data.classes), size)
    return own(recipe.architecture, shape, mean, std, seed) or build(
        recipe.architecture, channels=channels, classes=len(data.classes), size=size,
        activation=recipe.activation, mean=mean, std=std, seed=seed,
    )  # fmt: skip


def normalisation(facts: Defaults, recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel that the network's images are normalised by."""
    return {
        "standardised": (facts.mean, facts.std),
        "symmetric": ((0.5,) * facts.channels, (0.5,) * facts.channels),
        "plain": ((0.0,) * facts.channels, (1.0,) * facts.channels),
    }[recipe.pixels]
