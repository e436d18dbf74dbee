"""One metric of one model: the case it is given, and the scores it must give back."""

from __future__ import annotations

import math
import time
from functools import partial

import torch
from torch import Tensor

from benchmark import keys, services
from benchmark.grading import grade
from benchmark.place import Place, dataset, prints
from benchmark.plan import Cell
from benchmark.training import model
from metrics.case import Case, NotApplicable, Scores
from metrics.randomness import Draws


def cell_key(place: Place, cell: Cell, model_key: str) -> str:
    """What the scores depend on: model, images, metric, threat, seed, and the services that the metric uses."""
    training = cell.training
    used = frozenset(keys.attributes(cell.metric.card.path))
    return keys.key(
        model_key, prints(training.data, place.data).test, keys.part_facts(cell.metric),
        cell.threat, training.seed, keys.environment(place.device),
        services.facts(place, training, used),
    )  # fmt: skip


def measure(place: Place, cell: Cell, model_key: str, key: str) -> None:
    """One metric of one model: scores per image, or the reason why there are none."""
    metric = cell.metric.card.load()
    began = time.perf_counter()
    scores, reason = {}, ""
    try:
        found = metric(case(place, cell, model_key), **dict(cell.metric.settings))
        scores = checked(cell, found, len(dataset(cell.training.data, place.data).test))
    except NotApplicable as error:
        reason = str(error) or "no reason given"
    info = {"seconds": round(time.perf_counter() - began, 3), "reason": reason}
    place.store.save("cells", key, scores, info)


def checked(cell: Cell, scores: Scores, n: int) -> dict[str, Tensor]:
    """The scores as float32; ValueError if they are not what the metric's card says."""
    name, known = cell.metric.card.name, {m.name: m for m in cell.metric.card.measures}
    if not isinstance(scores, dict) or next(iter(known)) not in {
        k.partition("@")[0] for k in scores
    }:
        raise ValueError(f"{name} must return a dictionary with its headline {next(iter(known))!r}")
    for key, values in scores.items():
        measure_name, curve, at = key.partition("@")
        if measure_name not in known:
            raise ValueError(f"{name} returned {key!r}, its card lists {sorted(known)}")
        if bool(curve) != known[measure_name].curve or (curve and not _is_number(at)):
            form = "name@NUMBER" if known[measure_name].curve else "no @"
            raise ValueError(f"{name} returned {key!r}; its card says {form} for {measure_name!r}")
        if not isinstance(values, Tensor) or values.dim() not in (1, 2) or values.shape[-1] != n:
            came = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"{name}: {key} is {came}; one number per image is a tensor ({n},) or (refits, {n})"
            )
    return {key: values.to(torch.float32) for key, values in scores.items()}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


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
        refit=partial(services.refit, place, training),
        manifold=partial(services.manifold, place, data, test),
    )  # fmt: skip
