"""The scores of single images, arranged for comparisons: one array a model of a measure, on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

KEY = ["metric", "params", "threat", "measure"]
"""What tells one measure from another in the samples."""

_MODEL = ["model", "trainer"]

Model = tuple[str, str]
"""Architecture or specification, and label of the training: a row of the tables."""
Measure = tuple[str, ...]
Floats = NDArray[np.float64]
Scores = Mapping[Model, Floats]
"""(seeds, refits, n) of every model; NaN where an image, or a seed that has other measures, has no score. All have the
same images in the same order, and the measures of a model the same seeds."""


def by_measure(samples: pd.DataFrame) -> dict[Measure, Scores]:
    """The scores of every measure (in the order of `KEY`) of one data set's samples."""
    if samples.empty:
        return {}
    names = [*KEY, "model", "trainer", "seed", "refit"]
    # one number a network: comparing the columns of millions of rows would take most of the time
    code, values = np.zeros(len(samples), np.int64), []
    for name in names:
        own, known = _coded(samples[name])
        code = code * len(known) + own
        values.append(known)
    number, networks = pd.factorize(code)
    image, ids = pd.factorize(samples["image"])
    scores = np.full((len(networks), len(ids)), np.nan)
    scores[number, image] = samples["value"]
    decoded = np.unravel_index(np.asarray(networks, np.intp), [len(known) for known in values])
    facts = pd.DataFrame(
        {name: own[code] for name, own, code in zip(names, values, decoded, strict=True)}
    )
    seeds = {model: pd.Index(own["seed"].unique()) for model, own in facts.groupby(_MODEL)}
    return {
        tuple(map(str, key)): dict(_models(part, scores, seeds))
        for key, part in facts.groupby(KEY, sort=False)
    }


def _coded(column: pd.Series) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every row's place among the column's values, and these."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), column.cat.categories.to_numpy(object)
    codes, values = pd.factorize(column)
    return codes, np.asarray(values, object)


def _models(
    networks: pd.DataFrame, scores: Floats, seeds: Mapping[Any, pd.Index]
) -> Iterator[tuple[Model, Floats]]:
    """The networks of one measure, those of a model together; `networks` is indexed by the rows of `scores`."""
    for (model, trainer), own in networks.groupby(_MODEL, sort=False):
        known = seeds[model, trainer]
        refit, refits = pd.factorize(own["refit"])
        values = np.full((len(known), len(refits), scores.shape[1]), np.nan)
        values[known.get_indexer(pd.Index(own["seed"])), refit] = scores[own.index]
        yield (str(model), str(trainer)), values
