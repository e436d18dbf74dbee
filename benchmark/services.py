"""What the harness does for a metric: the verdict on adversarial examples, retraining, the image manifold.

Each comes with the facts that its result depends on; a cell's key holds those of the services that its metric uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import keys
from benchmark.cards import ROOT
from benchmark.datasets.base import Dataset, Split
from benchmark.place import Place, dataset, prints
from benchmark.plan import Cell, Training
from benchmark.training import experiment, model, model_key, untrained
from metrics.case import Manifold, NotApplicable, Refit, predict
from metrics.manifold._generators import GENERATORS, VaeManifold
from metrics.randomness import Draws
from trainers.base import Images
from trainers.standard import standard

_GENERATORS = ROOT / "metrics/manifold"


def facts(place: Place, cell: Cell, used: frozenset[str]) -> Any:
    """What the services among `used` (names of fields of Case) depend on, beside the model and its test images."""
    training, other = cell.training, cell.surrogate
    images = prints(training.data, place.data).fit
    known = {
        "grade": lambda: keys.code_version(ROOT / "benchmark/grading.py"),
        "refit": lambda: [images, _reference_facts(training)],
        "manifold": lambda: [images, _manifold_code(dataset(training.data, place.data))],
        "train_x": lambda: images,
        "surrogate": lambda: other and experiment(place, other, {}),
        "mask": lambda: keys.code_version(_module(training.data.name)),
    }
    return {name: describe() for name, describe in known.items() if name in used}


def refit(place: Place, training: Training, jobs: Iterable[Refit]) -> Tensor:
    """Retrain the reference classifier on each, unless that was done before for the same images, recipe and seed.

    Returns 0/1 correctness on the test images, shape (refits, n).
    """
    data = dataset(training.data, place.data)
    known = [_reference_facts(training), keys.tensor(data.train.y), keys.tensor(data.test.y)]
    known.append(keys.environment(place.device))

    def correct(job: Refit) -> Tensor:
        images = [keys.tensor(job.train_images), keys.tensor(job.test_images)]
        retrain = partial(_retrain, place, data, training, job)
        return place.store.once("refits", keys.key(known, images, job.seed), retrain)["correct"]

    return torch.stack([correct(job) for job in jobs]).float().to(place.device)


def _reference_facts(training: Training) -> Any:
    network = keys.network_facts(training.reference.architecture, training.data.name)
    return [training.reference, network, keys.code_version(ROOT / "trainers/standard.py")]


def _retrain(place: Place, data: Dataset, training: Training, job: Refit) -> dict[str, Tensor]:
    # seeds of their own: refit 0 must not begin where the model of seed 0 began
    seed = Draws(job.seed, torch.arange(1)).fork("refit").seed % 2**31
    train = data.train.to(place.device)
    trained = standard(
        untrained(data, training.data.name, training.reference, seed).to(place.device),
        Images(job.train_images, train.y, train.ids),
        Images(job.train_images[:0], train.y[:0], train.ids[:0]),
        recipe=training.reference, threat=None, seed=seed,
    )  # fmt: skip
    return {"correct": predict(trained.model, job.test_images) == data.test.y.to(place.device)}


def surrogate(place: Place, cell: Cell, subject: str, name: str) -> nn.Module:
    """The other model that the cell names, which a job of its own has trained before."""
    other = cell.surrogate
    if other is None or other.trainer is None or other.trainer.reference != name:
        known = "none" if other is None or other.trainer is None else other.trainer.reference
        raise ValueError(
            f"{cell.metric.card.name} asks for a surrogate by {name!r}, but its setting 'source: str' names {known}"
        )
    key = model_key(place, other, {})
    if key == subject:
        raise NotApplicable(f"the source {name!r} is this very model")
    return model(place, other, key)


def manifold(
    place: Place, data: Dataset, test: Split,
    generator: str = "vae", epochs: int | None = None, latent: str = "mean",
) -> Manifold:  # fmt: skip
    """The data set's own manifold, or that of a generator fitted once to its training images."""
    if data.manifold is not None:
        return data.manifold(test)
    x, made = data.train.x.to(place.device), GENERATORS[generator]
    code = keys.code_version(_GENERATORS / f"_{generator}.py")
    key = keys.key(code, epochs, keys.tensor(data.train.x), keys.environment(place.device))
    weights = place.store.once(
        "manifolds", key, lambda: made.fit(x, seed=0, epochs=epochs).state_dict()
    )
    with torch.device("meta"):  # the weights are there: none are drawn
        vae = made.build(x[0])
    vae.load_state_dict(weights, assign=True)
    vae = vae.to(place.device).eval().requires_grad_(False)
    return VaeManifold.at(vae, test.x, Draws(0, test.ids), latent)


def _manifold_code(data: Dataset) -> str:
    own = _module(data.name) if data.manifold else _GENERATORS / "_generators.py"
    return keys.code_version(own)


def _module(dataset: str) -> Path:
    """The source file that knows a data set's truth."""
    return ROOT / f"benchmark/datasets/{dataset.partition(':')[0]}.py"
