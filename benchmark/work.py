"""The three kinds of work a run consists of, as functions that any process can execute: train, inspect, measure.

Each reads what it needs from the store by key and leaves its result there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark import keys
from benchmark.cards import ROOT
from benchmark.datasets.base import Dataset, Split
from benchmark.datasets.defaults import defaults
from benchmark.datasets.load import load
from benchmark.errors import BenchError
from benchmark.grading import grade
from benchmark.models import checkpoint
from benchmark.models.base import build
from benchmark.models.spec import parse
from benchmark.plan import Cell, DataSpec, Training
from benchmark.preflight import preflight
from benchmark.store import Store, write_atomically
from benchmark.suite import Gallery
from metrics.attribution import explain
from metrics.case import Case, Manifold, NotApplicable, Refit, Scores, predict
from metrics.manifold._vae import VaeManifold, build_vae, fit_vae
from metrics.randomness import Draws
from trainers.base import Diverged, Epoch, Images, OnEpoch, Trained
from trainers.recipe import Recipe
from trainers.standard import standard


class TrainingFailed(BenchError):
    """A training came to no model."""

    status = 1


@dataclass(frozen=True)
class Place:
    """Where work is done: the run's folder, the root of downloaded data (none: the default), the device."""

    folder: Path
    data: Path | None
    device: str

    @property
    def store(self) -> Store:
        """The results of the run."""
        return Store(self.folder)


@lru_cache(maxsize=2)
def dataset(data: DataSpec, root: Path | None) -> Dataset:
    """The data set, cut to the images that are used."""
    full = load(data.name, root)
    # a run on few training images should not spend its time on validating them
    checked = None if data.train_limit is None else max(100, data.train_limit // 5)
    return Dataset(
        full.name, full.classes, full.train[: data.train_limit], full.validation[:checked],
        full.test[: data.limit], full.note, full.manifold, full.masks,
    )  # fmt: skip


def train(
    place: Place, training: Training, key: str, on_epoch: OnEpoch = lambda epoch: None
) -> None:
    """Train a model and keep it with its log."""
    data = dataset(training.data, place.data)
    began = time.perf_counter()
    trained = fit(data, training, place.device, on_epoch)
    info = {
        "label": training.label,
        "seconds": round(time.perf_counter() - began, 3),
        "kept": trained.kept,
        "log": [dict(zip(Epoch._fields, epoch, strict=True)) for epoch in trained.log],
    }
    place.store.save("models", key, trained.model.state_dict(), info)


def fit(data: Dataset, training: Training, device: str, on_epoch: OnEpoch) -> Trained:
    """Train a model as the training says."""
    assert training.trainer is not None
    assert training.recipe is not None
    trainer = training.trainer.card.load()
    trained: Trained = trainer(
        untrained(data, training.data.name, training.recipe, training.seed).to(device),
        _images(data.train, device),
        _images(data.validation, device),
        recipe=training.recipe,
        threat=training.threat,
        seed=training.seed,
        on_epoch=on_epoch,
        **dict(training.trainer.settings),
    )
    return trained


def untrained(data: Dataset, name: str, recipe: Recipe, seed: int) -> nn.Module:
    """The recipe's architecture for a data set, initialised by the seed."""
    facts = defaults(name)
    channels, size, _ = data.shape
    return build(
        recipe.architecture, channels=channels, classes=len(data.classes), size=size,
        activation=recipe.activation, mean=facts.mean, std=facts.std, seed=seed,
    )  # fmt: skip


def train_to_file(
    training: Training, file: Path, root: Path | None, device: str, on_epoch: OnEpoch
) -> str:
    """Train a model, keep its weights as safetensors, and return the specification that loads it again."""
    assert training.recipe is not None
    data = dataset(training.data, root)
    try:
        trained = fit(data, training, device, on_epoch)
    except Diverged as error:
        raise TrainingFailed(f"{training.label}: {error}") from None
    net = {
        name.removeprefix("net."): value.cpu().contiguous()
        for name, value in trained.model.state_dict().items()
        if name.startswith("net.")  # not the normalisation, which the specification names
    }
    write_atomically(file, lambda path: save_file(net, path))
    facts = defaults(training.data.name)
    mean, std = (",".join(map(str, numbers)) for numbers in (facts.mean, facts.std))
    activation = (
        "" if training.recipe.activation == "relu" else f"&activation={training.recipe.activation}"
    )
    return f"file:{file}@{training.recipe.architecture}?mean={mean}&std={std}{activation}"


def model(place: Place, training: Training, key: str) -> nn.Module:
    """The trained or third-party model, in eval mode and frozen."""
    data = dataset(training.data, place.data)
    if training.trainer is None:
        loaded: nn.Module = third_party(training.model, data).model
    else:
        assert training.recipe is not None
        loaded = untrained(data, training.data.name, training.recipe, training.seed)
        loaded.load_state_dict(place.store.load("models", key)[0])
    return loaded.to(place.device).eval().requires_grad_(False)


def third_party(text: str, data: Dataset) -> checkpoint.Loaded:
    """A third party's model for the images of a data set."""
    channels, size, _ = data.shape
    return checkpoint.load(parse(text), channels=channels, classes=len(data.classes), size=size)


def inspect(place: Place, training: Training, model_key: str, key: str, gallery: Gallery) -> None:
    """Preflight checks of a model, and its saliency maps of the first test images."""
    data = dataset(training.data, place.data)
    subject = model(place, training, model_key)
    test = data.test.to(place.device)
    few = test[:16]
    verdict = preflight(subject, few.x, few.y, len(data.classes))
    shown = test[_spread(test.y, gallery.images)]
    draws = Draws(training.seed, shown.ids)
    tensors = {"images": shown.x, "labels": shown.y}
    if gallery.images and not (verdict["finite"] or verdict.get("classes", "")):
        tensors["predicted"] = predict(subject, shown.x)
        for name in gallery.attributions:
            maps = explain(subject, shown.x, draws, attribution=name)
            tensors[f"map/{name}"] = maps.sum(1)  # signed, as Kim, Seo & Jeon show them
    place.store.save("inspections", key, tensors, {"preflight": verdict})


def _spread(y: Tensor, count: int) -> Tensor:
    """The first images of each class, class by class in turn: indices of `count` images."""
    turn = torch.stack([(y[:i] == label).sum() for i, label in enumerate(y)])
    return (turn * len(y) + torch.arange(len(y), device=y.device)).argsort()[:count]


def measure(place: Place, cell: Cell, model_key: str, key: str) -> None:
    """One metric of one model: scores per image, or the reason why there are none."""
    metric = cell.metric.card.load()
    began = time.perf_counter()
    reason = ""
    try:
        scores = dict(metric(case(place, cell, model_key), **dict(cell.metric.settings)))
    except NotApplicable as error:
        scores, reason = {}, str(error)
    check_scores(cell, scores, len(dataset(cell.training.data, place.data).test))
    info = {"seconds": round(time.perf_counter() - began, 3), "reason": reason}
    place.store.save("cells", key, scores, info)


def check_scores(cell: Cell, scores: Scores, n: int) -> None:
    """ValueError if a metric returned something else than its card says."""
    name, known = cell.metric.card.name, {m.name for m in cell.metric.card.measures}
    for measure_name, values in scores.items():
        if measure_name.partition("@")[0] not in known:
            raise ValueError(f"{name} returned {measure_name!r}, its card lists {sorted(known)}")
        if values.dim() not in (1, 2) or values.shape[-1] != n:
            raise ValueError(
                f"{name}: {measure_name} has shape {tuple(values.shape)}; "
                f"one number per image is ({n},) or (refits, {n})"
            )


def case(place: Place, cell: Cell, model_key: str) -> Case:
    """What the metric is given."""
    training = cell.training
    data = dataset(training.data, place.data)
    subject = model(place, training, model_key)
    test, fitted = data.test.to(place.device), data.train.to(place.device)

    def verdict(adversarial: Tensor) -> Scores:
        if cell.threat is None:
            raise NotApplicable("needs a threat model, as in threat = 'Linf 8/255'")
        return grade(subject, test.x, test.y, cell.threat, adversarial)

    return Case(
        model=subject, x=test.x, y=test.y, draws=Draws(training.seed, test.ids),
        train_x=fitted.x, train_draws=Draws(training.seed, fitted.ids),
        threat=cell.threat, classes=len(data.classes), grade=verdict,
        refit=partial(_refit, place, training), manifold=partial(_manifold, place, data, test),
    )  # fmt: skip


def _refit(place: Place, training: Training, refits: Iterable[Refit]) -> Tensor:
    """Retrain the reference classifier on each, unless that was done before for the same images, recipe and seed."""
    data = dataset(training.data, place.data)
    recipe = training.reference
    network = keys.network_facts(recipe.architecture, training.data.name)
    code = keys.code_version(ROOT / "trainers/standard.py")
    facts = [recipe, network, code, keys.tensor(data.train.y), keys.tensor(data.test.y)]

    def correct(job: Refit) -> Tensor:
        key = keys.key(facts, keys.tensor(job.train_images), keys.tensor(job.test_images), job.seed)
        retrain = partial(_retrain, place, data, training, job)
        return place.store.once("refits", key, retrain)["correct"]

    return torch.stack([correct(job) for job in refits]).float().to(place.device)


def _retrain(place: Place, data: Dataset, training: Training, job: Refit) -> dict[str, Tensor]:
    recipe = training.reference
    labels, ids = data.train.y.to(place.device), data.train.ids.to(place.device)
    trained = standard(
        untrained(data, training.data.name, recipe, job.seed).to(place.device),
        Images(job.train_images, labels, ids),
        Images(job.train_images[:0], labels[:0], ids[:0]),
        recipe=recipe, threat=None, seed=job.seed,
    )  # fmt: skip
    return {"correct": predict(trained.model, job.test_images) == data.test.y.to(place.device)}


def _manifold(place: Place, data: Dataset, test: Split) -> Manifold:
    """The data set's own manifold, or that of a VAE fitted once to its training images."""
    if data.manifold is not None:
        return data.manifold(test)
    fitted = data.train.to(place.device)
    key = keys.key(keys.code_version(ROOT / "metrics/manifold/_vae.py"), keys.tensor(data.train.x))
    weights = place.store.once("manifolds", key, lambda: fit_vae(fitted.x, seed=0).state_dict())
    vae = build_vae(fitted.x[0]).to(place.device)
    vae.load_state_dict(weights)
    return VaeManifold.at(vae.eval().requires_grad_(False), test.x)


def _images(split: Split, device: str) -> Images:
    moved = split.to(device)
    return Images(moved.x, moved.y, moved.ids)
