"""What a metric is given and what it gives back.

A metric is a function `(case, *, settings) -> Scores`: one number per image, never a percentage. Folding to means and
intervals is the harness's work, and so is everything that could flatter a method: checking adversarial examples,
retraining, fitting the manifold. The harness binds those to the case as functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from metrics.randomness import Draws

if TYPE_CHECKING:
    from metrics.threat import ThreatModel

Scores = Mapping[str, Tensor]
"""Measure -> one number per image, shape (n,); or per refit and image, shape (refits, n).

A point on a curve is named `measure@abscissa`, as in "accuracy@0.3".
"""


class NotApplicable(Exception):
    """This metric has no meaning for this case (the reason is shown in the tables)."""


class Manifold(Protocol):
    """A generator of images and the place of the case's images on it."""

    @property
    def latents(self) -> Tensor:
        """Coordinates of the case's images, shape (n, k)."""

    def decode(self, z: Tensor) -> Tensor:
        """Images (n, C, H, W) at the coordinates (n, k); differentiable, sample by sample.

        Row i is decoded as image i of the case would be (a generator may hold facts per image, such as a class offset).
        """

    def project(self, x: Tensor) -> Tensor:
        """The point of the manifold that stands for each image, shape kept."""


@dataclass(frozen=True)
class Refit:
    """One retraining from scratch: these training images, tested on these, with this seed."""

    train_images: Tensor
    test_images: Tensor
    seed: int


@dataclass(frozen=True)
class Case:
    """One classifier and the images it is measured on.

    `model` maps images (n, C, H, W) in [0, 1] to logits (n, K). It is in eval mode with frozen parameters, and a metric
    leaves it, and torch's global generator, as they were.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    draws: Draws
    """Random numbers for `x`, keyed by image and seed: fork them, never the global generator."""
    train_x: Tensor
    train_draws: Draws
    threat: ThreatModel | None
    classes: int
    grade: Callable[[Tensor], Scores]
    """Adversarial images -> robust_accuracy and the checks of ball and range, done by the harness."""
    refit: Callable[[Iterable[Refit]], Tensor]
    """Retrainings of the data set's reference classifier -> 0/1 correctness, shape (refits, n)."""
    manifold: Callable[[], Manifold]
    """The true manifold where the data set knows it, otherwise a VAE fitted to the training images."""

    def needs_threat(self) -> ThreatModel:
        """The threat to evaluate under; NotApplicable without one."""
        if self.threat is None:
            raise NotApplicable("needs a threat model, as in threat = 'Linf 8/255'")
        return self.threat


class Metric(Protocol):
    """A measure of a classifier: `def gini(case, *, attribution="gradient") -> Scores`."""

    __name__: str

    def __call__(self, case: Case, /, **settings: object) -> Scores:
        """Measure the case; settings are keyword-only."""


def in_batches(
    function: Callable[..., Tensor], *tensors: Tensor | Draws, size: int = 250
) -> Tensor:
    """`function` over slices of the tensors (and draws), joined again: bounds memory, changes no result.

    The slices are fixed by `size` alone, so rounding does not depend on how the work was shared out.
    """
    length = len(tensors[0].ids if isinstance(tensors[0], Draws) else tensors[0])
    parts = [slice(start, start + size) for start in range(0, length, size)]
    return torch.cat([function(*(tensor[part] for tensor in tensors)) for part in parts])


@torch.no_grad()
def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Predicted classes, shape (n,)."""
    return in_batches(lambda batch: model(batch).argmax(1), x)
