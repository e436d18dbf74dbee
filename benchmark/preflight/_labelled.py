"""Checks that compare accuracies: the scale of the pixels, the order of the classes, chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from benchmark.gradient_masking import ALPHA, Finding, at_least, outnumbers
from benchmark.preflight._subject import PASSED, Subject, above_chance, found


class Variant(NamedTuple):
    """The images as the network may want them instead: (images, means, standard deviations) -> images."""

    code: str
    change: Callable[[Tensor, Tensor, Tensor], Tensor]


VARIANTS = (
    Variant("normalised-twice", lambda x, mean, std: x * std + mean),
    Variant("normalised-twice", lambda x, mean, std: (x + 1) / 2),
    Variant("not-normalised", lambda x, mean, std: (x - mean) / std),
    Variant("expects-minus-1-to-1", lambda x, mean, std: 2 * x - 1),
    Variant("expects-0-255", lambda x, mean, std: 255 * x),
    Variant("scaled-by-255", lambda x, mean, std: x / 255),
    Variant("inverted", lambda x, mean, std: 1 - x),
    Variant("channel-order", lambda x, mean, std: x.flip(1)),
)


def pixel_range(subject: Subject) -> Finding:
    """FAIL if the model is clearly better on the images in another scale; WARN if it is as good there (to 1 % of the
    images), and only there its first layer sees numbers as they are usual: ReLUs may not mind the scale."""
    x = subject.x
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True).clamp_min(1e-3)
    right, usual = _seen(subject, x)
    others = [(code, *_seen(subject, change(x, mean, std))) for code, change in VARIANTS]
    chance = above_chance(subject.classes)
    better = [
        (expected, int(there.sum()), code)
        for code, there, expected in others
        if there.float().mean() > chance and _clearly_more(there, right)
    ]
    if better:
        return found(max(better)[2])
    enough = int(right.sum()) - 0.01 * len(x)
    as_good = [code for code, there, expected in others if expected and there.sum() >= enough]
    doubtful = as_good and not usual and bool(right.float().mean() > chance)
    return found(as_good[0])._replace(level="WARN") if doubtful else PASSED


def _clearly_more(there: Tensor, right: Tensor) -> bool:
    """More right answers than chance makes, and by 5 points."""
    gained, lost = int((there & ~right).sum()), int((right & ~there).sum())
    return outnumbers(gained, lost) and gained - lost >= 0.05 * len(right)


def _seen(subject: Subject, x: Tensor) -> tuple[Tensor, bool]:
    """Which images are right, and whether the first layer sees numbers as they are usual."""
    inputs: list[Tensor] = []
    layers = [m for m in subject.model.modules() if isinstance(m, _ConvNd | nn.Linear)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for layer in layers
    ]
    try:
        right = subject.logits(x).argmax(1) == subject.y
    finally:
        for hook in hooks:
            hook.remove()
    return right, not inputs or _usual(inputs[0].float(), x.shape[1])


def _usual(seen: Tensor, channels: int) -> bool:
    """Whether numbers (n, C, ...) are in [0, 1], in [-1, 1], or standardised. Other shapes are not judged."""
    if seen.dim() < 2 or seen.shape[1] % channels:
        return True
    pixels = seen.unflatten(1, (channels, -1)).transpose(0, 1).flatten(1)
    low, high, mean, std = pixels.min(), pixels.max(), pixels.mean(1), pixels.std(1)
    # a little more: resizing overshoots
    bounded = (low > -1.1) & (high < 1.1) & (high - low > 0.5)
    standard = (mean.abs() < 0.5).all() & (std > 0.5).all() & (std < 2).all()
    return bool(bounded | standard)


def label_order(subject: Subject) -> Finding:
    """A permutation of the classes, found on one half of the images, is clearly better than none on the other half."""
    predicted = subject.logits(subject.x).argmax(1)
    half = torch.arange(len(predicted), device=predicted.device) % 2 == 0
    gained = lost = right = 0
    for fit, test in ((half, ~half), (~half, half)):
        table = torch.zeros(subject.classes, subject.classes)
        table.index_put_(
            (predicted[fit].cpu(), subject.y[fit].cpu()), torch.ones(()), accumulate=True
        )
        # half a count for the order as it is, so that classes without an image stay where they are
        columns = linear_sum_assignment(
            (table + torch.eye(subject.classes) / 2).numpy(), maximize=True
        )[1]
        mapped = torch.from_numpy(columns).to(predicted.device)[predicted[test]]
        there, here = mapped == subject.y[test], predicted[test] == subject.y[test]
        gained += int((there & ~here).sum())
        lost += int((here & ~there).sum())
        right += int(there.sum())
    enough = right > above_chance(subject.classes) * len(predicted)
    return found("permuted-labels", wrong=enough and outnumbers(gained, lost))


def better_than_chance(subject: Subject) -> Finding:
    """More images are right than by naming the most frequent class for all, or a class at random (exact binomial test).

    Nothing is said where even a perfect model would not show it: few images, or nearly all of one class.
    """
    n = len(subject.y)
    right = int((subject.logits(subject.x).argmax(1) == subject.y).sum())
    chance = max(1 / subject.classes, int(subject.y.bincount().max()) / n)
    shows = at_least(n, n, chance) < ALPHA
    return found("not-above-chance", wrong=shows and at_least(right, n, chance) >= ALPHA)
