"""Models: trained here, or loaded from somebody's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from torch import nn

from benchmark import keys
from benchmark.datasets.base import Dataset, Split
from benchmark.errors import IntegrityError
from benchmark.measuring.networks import untrained
from benchmark.measuring.place import Place, dataset, prints
from benchmark.models import checkpoint
from benchmark.models.spec import parse
from benchmark.plan import Training
from benchmark.running import live
from benchmark.storage.snapshots import FileSnapshots
from trainers.base import Images, OnEpoch, Trained


def model_key(place: Place, training: Training, weights: Mapping[str, str]) -> str:
    """What a model depends on."""
    return keys.key(experiment(place, training, weights), training.seed)


def experiment(place: Place, training: Training, weights: Mapping[str, str]) -> str:
    """What a training depends on apart from its seed; or which model a third party's is (`weights`: sha256 by spec)."""
    if training.trainer is None:
        return keys.key(weights[training.model], checkpoint.facts(parse(training.model)))
    assert training.recipe is not None
    return keys.key(
        prints(training.data, place.data).fit, keys.part_facts(training.trainer), training.recipe,
        training.threat, training.selection, keys.environment(place.device),
        keys.network_facts(training.recipe.architecture, training.data.name),
    )  # fmt: skip


def train(place: Place, training: Training, key: str) -> None:
    """Train a model and keep it with its log."""
    data = dataset(training.data, place.data)
    unfinished = place.folder / "store" / "unfinished" / f"{key}.snapshot"
    snapshots = FileSnapshots(unfinished, key, place.device)
    recipe = training.recipe
    known = recipe.epochs if recipe and recipe.budget == "epochs" else 0
    noted = live.step(place.folder, f"models/{key}", known)
    trained = fit(data, training, place.device, noted, snapshots)
    info = {
        "label": training.label,
        "recipe": training.recipe and asdict(training.recipe),
        "kept": trained.kept,
        "cost": trained.cost._asdict(),
        "log": [epoch._asdict() for epoch in trained.log],
    }
    place.store.save("models", key, trained.model.state_dict(), info)
    snapshots.discard()


def fit(
    data: Dataset,
    training: Training,
    device: str,
    on_epoch: OnEpoch = lambda epoch: None,
    snapshots: FileSnapshots | None = None,
) -> Trained:
    """Train a model as the training says, from its last snapshot on if there is one."""
    assert training.trainer is not None
    assert training.recipe is not None
    trainer = training.trainer.card.load()
    trained: Trained = trainer(
        untrained(data, training.data.name, training.recipe, training.seed).to(device),
        _images(data.train, device),
        _images(data.validation, device),
        recipe=training.recipe,
        threat=training.threat,
        selection=training.selection,
        seed=training.seed,
        on_epoch=on_epoch,
        snapshots=snapshots,
        **dict(training.trainer.settings),
    )
    return trained


def model(place: Place, training: Training, key: str) -> nn.Module:
    """The trained or third-party model, in eval mode and frozen; IntegrityError if its file is not what `key` says."""
    data = dataset(training.data, place.data)
    if training.trainer is None:
        found = third_party(training.model, data)
        if model_key(place, training, {training.model: found.sha256}) != key:
            raise IntegrityError(
                f"{training.model}: the model is another one than when the run began: its file or the code of its "
                "network has changed, or the function that makes it draws random numbers that are not torch's"
            )
        loaded: nn.Module = found.model
    else:
        assert training.recipe is not None
        loaded = untrained(data, training.data.name, training.recipe, training.seed)
        loaded.load_state_dict(place.store.load("models", key)[0])
    return loaded.to(place.device).eval().requires_grad_(False)


def third_party(text: str, data: Dataset) -> checkpoint.Loaded:
    """A third party's model for the images of a data set."""
    channels, size, _ = data.shape
    return checkpoint.load(parse(text), channels=channels, classes=len(data.classes), size=size)


def _images(split: Split, device: str) -> Images:
    # copies: what a method does to its images in place must not reach the next one
    moved = split.to(device)
    return Images(moved.x.clone(), moved.y.clone(), moved.ids.clone())
