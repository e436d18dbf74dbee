"""A look at a model before it is measured: preflight checks, and saliency maps for the gallery."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from benchmark import keys
from benchmark.cards import ROOT
from benchmark.measuring.place import Place, dataset, prints
from benchmark.measuring.training import model
from benchmark.plan import Training
from benchmark.preflight import preflight
from benchmark.suite import Gallery
from metrics.attribution import explain
from metrics.case import NotApplicable, predict
from metrics.randomness import Draws


def inspection_key(place: Place, training: Training, model_key: str, gallery: Gallery) -> str:
    """What the verdict and the maps depend on."""
    files = (
        "benchmark/preflight/__init__.py",
        "benchmark/gradient_masking.py",
        "metrics/attribution.py",
    )
    return keys.key(
        model_key, prints(training.data, place.data).test, gallery.model_dump(),
        [keys.code_version(ROOT / file) for file in files], keys.environment(place.device),
    )  # fmt: skip


def inspect(place: Place, training: Training, model_key: str, key: str, gallery: Gallery) -> None:
    """Preflight checks of a model, and its saliency maps of some test images."""
    data = dataset(training.data, place.data)
    subject = model(place, training, model_key)
    test = data.test.to(place.device)
    some = test[:250]
    verdict = preflight(subject, some.x, some.y, len(data.classes))
    shown = test[_spread(test.y, gallery.images)]
    tensors = {"images": shown.x, "labels": shown.y}
    broken = {name for name, finding in verdict.items() if finding.level == "FAIL"}
    if gallery.images and broken.isdisjoint(("finite", "classes", "gradient")):
        tensors["predicted"] = predict(subject, shown.x)
        draws = Draws(training.seed, shown.ids)
        for name in gallery.attributions:
            with suppress(
                NotApplicable
            ):  # a map that this network cannot have leaves its place empty
                maps = explain(subject, shown.x, draws, attribution=name)
                tensors[f"map/{name}"] = maps.sum(1)  # signed, as Kim, Seo & Jeon show them
    findings = {name: list(finding) for name, finding in verdict.items()}
    place.store.save("inspections", key, tensors, {"preflight": findings})


def _spread(y: Tensor, count: int) -> Tensor:
    """The first images of each class, class by class in turn: indices of `count` images."""
    turn = torch.stack([(y[:i] == label).sum() for i, label in enumerate(y)])
    return (turn * len(y) + torch.arange(len(y), device=y.device)).argsort()[:count]
