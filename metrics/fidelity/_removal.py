"""What ROAR, KAR and DiffROAR share: rank masks, filling, retraining on the rest, controls, areas between curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metrics.attribution import Of, explain
from metrics.case import Case, NotApplicable, Refit, Scores, in_batches
from metrics.edges import sobel
from metrics.fidelity._curves import points_of
from metrics.fill import Fill, filled
from metrics.importance import Reduction, pixel_map, softened, top
from metrics.randomness import Draws


class Ranked(NamedTuple):
    """Images, and the importance (n, H, W) by which their pixels are taken away; `draws` break ties and fill."""

    x: Tensor
    importance: Tensor
    draws: Draws


Images = tuple[Ranked, ...]
"""The training images and the test images."""

SHARED = 3
"""Retrainings of a control that all models share, at the least.

Whatever is compared with it has its luck: of one retraining nobody could say how much that is.
"""


def explained(case: Case, *, attribution: str, of: Of, reduction: Reduction) -> Images:
    """Ranked by maps for the class that the model predicts: those for the true one would tell it to the retrained.

    NotApplicable if a map holds anything but numbers: every retraining would learn from pixels without an order.
    """
    found = []
    for x, draws in ((case.train_x, case.train_draws), (case.x, case.draws)):
        maps = explain(case.model, x, draws, attribution=attribution, of=of)
        broken = int((~maps.isfinite().flatten(1).all(1)).sum())
        if broken:
            raise NotApplicable(f"the maps of {broken} of {len(x)} images are not numbers")
        found.append(Ranked(x, pixel_map(maps, reduction), draws))
    return tuple(found)


def control(name: str, images: Images) -> Images:
    """The images ranked by a control.

    random: knows nothing. edge: Sobel's edges, which know the image alone. blurred: the same importance behind a
    Gaussian. The first two depend on nothing but the image, so that their retrainings are shared by all models, all
    seeds and all attributions.
    """
    return tuple(_CONTROLS[name](each) for each in images)


def _random(images: Ranked) -> Ranked:
    draws = Draws(0, images.draws.ids).fork("random")
    return Ranked(images.x, draws.uniform(*images.x.shape[2:]), draws)


def _edge(images: Ranked) -> Ranked:
    draws = Draws(0, images.draws.ids).fork("edge")
    return Ranked(images.x, in_batches(sobel, images.x), draws)


def _blurred(images: Ranked) -> Ranked:
    return images._replace(
        importance=in_batches(lambda part: softened(part[:, None]).squeeze(1), images.importance)
    )


_CONTROLS: dict[str, Callable[[Ranked], Ranked]] = {
    "random": _random,
    "edge": _edge,
    "blurred": _blurred,
}


def accuracy(
    case: Case,
    images: Images,
    fractions: Sequence[float],
    *,
    keep: bool,
    fill: Fill,
    retrains: int,
) -> Tensor:
    """Correctness after retraining without the top fraction of the pixels (or, with `keep`, with nothing else).

    Shape (fractions, retrains, n).
    """
    mean = case.train_x.mean((0, 2, 3))
    refits = (
        Refit(train, test, seed)
        for fraction in fractions
        for train, test in [[_without(each, fraction, keep, fill, mean) for each in images]]
        for seed in range(retrains)
    )
    return case.refit(refits).view(len(fractions), retrains, -1)


def _without(images: Ranked, fraction: float, keep: bool, fill: Fill, mean: Tensor) -> Tensor:
    def changed(x: Tensor, importance: Tensor, draws: Draws) -> Tensor:
        marked = top(importance, fraction, draws)
        return filled(x, ~marked if keep else marked, fill, mean=mean, draws=draws)

    return in_batches(changed, *images)


def retrainings(name: str, retrains: int) -> int:
    """Trainings of the control of that name, where the map itself is to have `retrains`."""
    return retrains if name == "blurred" else max(retrains, SHARED)


def area_between(upper: Tensor, lower: Tensor, fractions: tuple[float, ...]) -> Tensor:
    """Trapezoid area of upper - lower over [0, 1], curves (points, ...) -> (...).

    The curves meet at 0 (nothing removed) and at 1 (everything removed), whatever the map.
    """
    heights = upper - lower
    zero = torch.zeros_like(heights[:1])
    at = torch.tensor([0.0, *fractions, 1.0], device=upper.device)
    return torch.trapezoid(torch.cat([zero, heights, zero]).movedim(0, -1), at)


def removal_scores(
    case: Case,
    images: Images,
    percents: tuple[int, ...],
    controls: tuple[str, ...],
    *,
    keep: bool,
    fill: Fill,
    retrains: int,
) -> Scores:
    """The area between the images' curve and that of the random control in the mean over its retrainings.

    The same for the controls, and all curves. Each (trainings, n): as a retraining is compared with the mean of the
    random ones, how far those are apart is in `random_score` (0 in the mean) and in no other. The curves are drawn over
    the removed fraction.
    """
    marked = sorted((p / 100 for p in percents), reverse=keep)  # so that the removed fraction rises
    removed = tuple(1 - p if keep else p for p in marked)

    def curve(ranked: Images, retrains: int) -> Tensor:
        return accuracy(case, ranked, marked, keep=keep, fill=fill, retrains=retrains)

    own = curve(images, retrains)
    # removing or keeping random pixels is the same thing, so that ROAR and KAR share the control's retrainings
    random = accuracy(
        case, control("random", images), removed,
        keep=False, fill=fill, retrains=retrainings("random", retrains),
    )  # fmt: skip
    chance = random.mean(1, keepdim=True)

    def score(points: Tensor) -> Tensor:
        return area_between(*((points, chance) if keep else (chance, points)), removed)

    beside = {name: curve(control(name, images), retrainings(name, retrains)) for name in controls}
    scores = {"score": score(own), **points_of("accuracy", own, removed)}
    for name, points in {"random": random, **beside}.items():
        scores[f"{name}_score"] = score(points)
        scores |= points_of(f"{name}_accuracy", points, removed)
    return scores
