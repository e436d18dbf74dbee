"""What the harness does for a metric, beside verdicts and retrainings: the image manifold, the surrogate.

Each comes with the facts that its result depends on; a cell's key holds those of the services that its metric uses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmark import keys
from benchmark.cards import ROOT
from benchmark.datasets.base import Dataset, Split
from benchmark.measuring import retraining
from benchmark.measuring.place import Place, dataset, prints
from benchmark.measuring.training import experiment, model, model_key, third_party
from benchmark.models.base import ModelError
from benchmark.plan import Cell, Training
from metrics.case import Manifold, NotApplicable
from metrics.manifold._generators import GENERATORS, VaeManifold
from metrics.randomness import Draws

_GENERATORS = ROOT / "metrics/manifold"
_TRAINING_DATA = frozenset(("train_x", "train_y", "train_draws"))
_recent: dict[tuple[object, ...], Manifold] = {}
"""The manifolds that were asked for last, by what they depend on: two, as metrics of one suite differ in `latent`."""


def facts(place: Place, cell: Cell, used: frozenset[str]) -> Any:
    """What the services among `used` (names of fields of Case) depend on, beside the model and its test images."""
    training = cell.training
    if used & _TRAINING_DATA:
        used |= {"train_x"}
    images = prints(training.data, place.data).fit
    known = {
        "grade": lambda: keys.code_version(ROOT / "benchmark/grading.py"),
        "refit": lambda: [images, retraining.facts(training, place.device)],
        "manifold": lambda: [images, _manifold_code(dataset(training.data, place.data))],
        "train_x": lambda: images,  # the fingerprint is of labels and identities, too
        "surrogate": lambda: [_experiment(place, other) for other in cell.surrogates],
        "mask": lambda: keys.code_version(_module(training.data.name)),
    }
    return {name: describe() for name, describe in known.items() if name in used}


def surrogate(place: Place, cell: Cell, subject: str, name: str) -> nn.Module:
    """The other model of this name that the cell asks for, which a job of its own has trained before."""
    others = {_name(other): other for other in cell.surrogates}
    if name not in others:
        raise ValueError(
            f"{cell.metric.card.name} asks for a surrogate by {name!r}, but its setting 'source' names "
            f"{', '.join(others) or 'none'}"
        )
    other = others[name]
    key = model_key(place, other, _weights(place, other))
    if key == subject:
        raise NotApplicable(f"the source {name!r} is this very model")
    return model(place, other, key)


def _name(other: Training) -> str:
    """What a metric's setting calls it."""
    return other.trainer.reference if other.trainer else other.model


def _experiment(place: Place, other: Training) -> str:
    try:
        return experiment(place, other, _weights(place, other))
    except ModelError as error:  # the cell will fail with it
        return str(error)


def _weights(place: Place, other: Training) -> dict[str, str]:
    """The sha256 of a third party's model, as keys want it."""
    if other.trainer:
        return {}
    return {other.model: third_party(other.model, dataset(other.data, place.data)).sha256}


def manifold(
    place: Place, data: Dataset, test: Split,
    generator: str = "vae", epochs: int | None = None, latent: str = "mean",
) -> Manifold:  # fmt: skip
    """The data set's own manifold, or that of a generator fitted once to its training images.

    The same object for the same images, so that what a metric finds out about it serves every model.
    """
    if data.manifold is not None:
        return data.manifold(test)
    x, made = data.train.x.to(place.device), GENERATORS[generator]
    code = keys.code_version(_GENERATORS / f"_{generator}.py")
    key = keys.key(code, epochs, keys.tensor(data.train.x), keys.environment(place.device))
    asked = (place, key, keys.tensor(test.x), keys.tensor(test.ids), latent)
    if asked not in _recent:
        weights = place.store.once(
            "manifolds", key, lambda: made.fit(x, seed=0, epochs=epochs).state_dict()
        )
        with torch.device("meta"):  # the weights are there: none are drawn
            vae = made.build(x[0])
        vae.load_state_dict(weights, assign=True)
        vae = vae.to(place.device).eval().requires_grad_(False)
        if len(_recent) == 2:
            del _recent[next(iter(_recent))]
        _recent[asked] = VaeManifold.at(vae, test.x, Draws(0, test.ids), latent)
    _recent[asked] = found = _recent.pop(asked)  # the last to go
    return found


def _manifold_code(data: Dataset) -> str:
    own = _module(data.name) if data.manifold else _GENERATORS / "_generators.py"
    return keys.code_version(own)


def _module(dataset: str) -> Path:
    """The source file that knows a data set's truth."""
    return ROOT / f"benchmark/datasets/{dataset.partition(':')[0]}.py"
