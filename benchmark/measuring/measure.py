"""One metric of one model: the case it is given, and the scores it must give back."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from benchmark import keys
from benchmark.grading import judge
from benchmark.measuring import services
from benchmark.measuring.examples import KIND, Graded
from benchmark.measuring.place import Place, dataset, prints
from benchmark.measuring.retraining import Unfinished, refit
from benchmark.measuring.training import model
from benchmark.plan import Cell
from metrics.case import Case, NotApplicable, Scores
from metrics.randomness import Draws


def cell_key(place: Place, cell: Cell, model_key: str) -> str:
    """What the scores depend on: model, test images, threat, seed and method."""
    images = prints(cell.training.data, place.data).test
    return keys.key(model_key, images, cell.threat, cell.training.seed, method(place, cell))


def method(place: Place, cell: Cell) -> str:
    """What a metric depends on apart from the model: its code and settings, and the services that it uses."""
    return keys.key(
        keys.part_facts(cell.metric), keys.environment(place.device),
        services.facts(place, cell, used(cell)),
    )  # fmt: skip


def used(cell: Cell) -> frozenset[str]:
    """The fields of Case that a metric's code uses, among other names of attributes."""
    path = cell.metric.card.path
    return _used(path, keys.code_version(path))


@cache
def _used(path: Path, version: str) -> frozenset[str]:
    return frozenset(keys.attributes(path))


def measure(place: Place, cell: Cell, model_key: str, key: str, keep: int = 0) -> None:
    """One metric of one model: scores per image, or the reason why there are none.

    The adversarial examples of the first `keep` test images are kept beside them.
    """
    began = time.perf_counter()
    scores, reason, graded = {}, "", Graded(keep)
    while True:
        try:
            found = _applied(cell, case(place, cell, model_key, graded))
            scores = checked(cell, found, len(dataset(cell.training.data, place.data).test))
        except NotApplicable as error:
            reason = str(error) or "no reason given"
        except Unfinished:  # a worker that helped has died
            graded = Graded(keep)
            continue
        break
    info = {"seconds": round(time.perf_counter() - began, 3), "reason": reason, KIND: keep}
    if keep:
        graded.save(place.store, cell, key)
    place.store.save("cells", key, {**scores, **graded.clean()}, info)


def assist(place: Place, cell: Cell, model_key: str, key: str, keep: int = 0) -> None:
    """Do a part of the retrainings of a cell that another worker measures; they meet in the store."""
    share = partial(refit, place, cell.training, whole=False)
    _applied(cell, replace(case(place, cell, model_key), refit=share))


def _applied(cell: Cell, given: Case) -> Scores:
    found: Scores = cell.metric.card.load()(given, **dict(cell.metric.settings))
    return found


def checked(cell: Cell, scores: Scores, n: int) -> dict[str, Tensor]:
    """The scores as float32; ValueError if they are not what the metric's card says."""
    name, known = cell.metric.card.name, {m.name: m for m in cell.metric.card.measures}
    if not isinstance(scores, dict) or next(iter(known)) not in {
        k.partition("@")[0] for k in scores
    }:
        returned = sorted(scores) if isinstance(scores, dict) else type(scores).__name__
        raise ValueError(
            f"{name} must return a dictionary with its headline {next(iter(known))!r}, got {returned}"
        )
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
        _check_range(f"{name}: {key}", values, known[measure_name].range)
    return {key: values.to(torch.float32) for key, values in scores.items()}


def _check_range(what: str, values: Tensor, written: str) -> None:
    """NaN means "no score for this image"; anything else must be finite and in the range of the card."""
    seen = values[~values.isnan()].double()
    low, _, high = written.partition("..")
    lowest = float(low) if _is_number(low) else -math.inf
    highest = float(high) if _is_number(high) else math.inf
    if not bool(
        seen.isfinite().all() & (seen >= lowest - 1e-3).all() & (seen <= highest + 1e-3).all()
    ):
        raise ValueError(
            f"{what} runs from {seen.min():g} to {seen.max():g}; its card says {written}"
        )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def case(place: Place, cell: Cell, model_key: str, graded: Graded | None = None) -> Case:
    """What the metric is given; `graded` is told what it had judged."""
    training = cell.training
    data = dataset(training.data, place.data)
    subject = model(place, training, model_key)
    # copies: what a metric does to its images in place must not reach the next one, nor the verdict
    test, fitted = data.test.to(place.device), data.train.to(place.device)
    x, train_x = test.x.clone(), fitted.x.clone()

    def verdict(adversarial: Tensor) -> Scores:
        if cell.threat is None:
            raise NotApplicable("needs a threat model, as in threat = 'Linf 8/255'")
        found = judge(subject, test.x, test.y, cell.threat, adversarial)
        if graded:
            graded.note(adversarial, found)
        return found.scores()

    return Case(
        model=subject, x=x, y=test.y.clone(), draws=Draws(training.seed, test.ids),
        train_x=train_x, train_draws=Draws(training.seed, fitted.ids),
        threat=cell.threat, classes=len(data.classes), grade=verdict,
        refit=partial(refit, place, training),
        manifold=partial(services.manifold, place, data, test),
        surrogate=partial(services.surrogate, place, cell, model_key),
        mask=lambda: data.masks and data.masks(test), train_y=fitted.y.clone(),
    )  # fmt: skip
