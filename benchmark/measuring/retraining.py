"""Retraining the reference classifier on changed images, each kept by its key and shared among workers.

Whoever measures a cell takes the next retraining that is neither done nor at another worker's; so several workers that
measure the same cell, or cells with retrainings in common, do each of them once. A stopped run loses those in progress:
one a worker, on a GPU one program.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import keys
from benchmark.cards import ROOT
from benchmark.datasets.base import Dataset
from benchmark.measuring import plain_training
from benchmark.measuring.networks import untrained
from benchmark.measuring.place import Place, dataset
from benchmark.plan import Training
from metrics.case import Refit, predict
from metrics.randomness import Draws
from trainers.base import Images
from trainers.recipe import Recipe

_log = logging.getLogger(__name__)
_BYTES = 4 << 30
"""Training images that are held for one program, about."""


class Unfinished(Exception):
    """Another worker left a retraining undone: measure again, the others are kept."""


def facts(training: Training, device: str) -> list[Any]:
    """What a retraining depends on, beside its images and its seed: recipe (with its precision), network and code."""
    network = keys.network_facts(training.reference.architecture, training.data.name)
    files = ("plain_training.py", "retraining.py")  # here seeds are derived, and predictions made
    code = [keys.code_version(ROOT / "benchmark/measuring" / file) for file in files]
    how = "together" if _together(device) > 1 else "one by one"
    return [training.reference, network, code, how]


def refit(place: Place, training: Training, jobs: Iterable[Refit], *, whole: bool = True) -> Tensor:
    """Retrain the reference classifier on each, unless that was done before for the same images, recipe and seed.

    Returns 0/1 correctness on the test images, shape (refits, n); all 0 for those that another worker is at unless the
    `whole` result is needed. Unfinished if that worker then leaves one undone.
    """
    data = dataset(training.data, place.data)
    known = [*facts(training, place.device), keys.tensor(data.train.y), keys.tensor(data.test.y)]
    known.append(keys.environment(place.device))
    names: list[str] = []
    for group in _groups(jobs, _together(place.device)):
        named = {}
        for job in group:
            names.append(_key(known, job))
            named[names[-1]] = job
        missing = (name for name in named if not place.store.has("refits", name))
        with place.store.claimed("refits", missing) as mine:
            results = _retrained(place, data, training, [named[name] for name in mine])
            for name, correct in zip(mine, results, strict=True):
                place.store.save("refits", name, {"correct": correct}, {})
    found = [_result(place, name, whole, len(data.test)) for name in names]
    return torch.stack(found).float().to(place.device)


def _key(known: list[Any], job: Refit) -> str:
    return keys.key(known, [keys.tensor(job.train_images), keys.tensor(job.test_images)], job.seed)


def _result(place: Place, name: str, whole: bool, n: int) -> Tensor:
    if not place.store.has("refits", name):
        if not whole:
            return torch.zeros(n, dtype=torch.bool)
        if not place.store.awaited("refits", name):
            raise Unfinished
    return place.store.load("refits", name)[0]["correct"]


def _together(device: str) -> int:
    """How many retrainings are one program: on a CPU one is faster than several, on a GPU they share its width."""
    return 1 if torch.device(device).type == "cpu" else plain_training.MOST


def _groups(jobs: Iterable[Refit], most: int) -> Iterator[list[Refit]]:
    """The jobs in groups that are done together: not more than `most`, nor than fit into a share of the memory."""
    group: list[Refit] = []
    for job in jobs:
        group.append(job)
        images = {job.train_images.data_ptr(): job.train_images for job in group}
        if len(group) == most or sum(x.nbytes for x in images.values()) > _BYTES:
            yield group
            group = []
    if group:
        yield group


def _retrained(
    place: Place, data: Dataset, training: Training, jobs: list[Refit]
) -> Iterator[Tensor]:
    """Correctness on the test images, of each."""
    recipe, labels = training.reference, data.test.y.to(place.device)
    y, ids = data.train.y.to(place.device), data.train.ids.to(place.device)
    # seeds of their own: refit 0 must not begin where the model of seed 0 began
    seeds = [Draws(job.seed, torch.arange(1)).fork("refit").seed % 2**31 for job in jobs]
    models = [untrained(data, training.data.name, recipe, seed).to(place.device) for seed in seeds]
    sets = [Images(job.train_images, y, ids) for job in jobs]
    done = _done_as_one(models, sets, recipe, seeds)
    for job, model, images, seed in zip(jobs, models, sets, seeds, strict=True):
        if not done:
            plain_training.one(model, images, recipe=recipe, seed=seed)
        yield predict(model, job.test_images) == labels


def _done_as_one(
    models: list[nn.Module], sets: list[Images], recipe: Recipe, seeds: list[int]
) -> bool:
    """Whether several models could be trained as one program, and so have been."""
    if len(models) < 2:
        return False
    try:
        plain_training.several(models, sets, recipe=recipe, seeds=seeds)
    except plain_training.CannotBatch as error:
        _log.warning("%d retrainings are done one by one: %s", len(models), error)
        return False
    return True
