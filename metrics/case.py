"""What a metric is given and what it gives back.

A metric is a function `(case, *, settings) -> Scores`: one number per image, never a percentage. Folding to means and
intervals is the harness's work, and so is everything that could flatter a method: checking adversarial examples,
retraining, fitting the manifold. The harness binds those to the case as functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from metrics.batching import in_batches as in_batches
from metrics.batching import predict as predict
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

    def __getitem__(self, rows: slice) -> Manifold:
        """The same manifold at some of the images."""


class FindManifold(Protocol):
    """Where the true manifold is known, that one; otherwise a generator fitted once to the training images."""

    def __call__(
        self, generator: str = "vae", epochs: int | None = None, latent: str = "mean"
    ) -> Manifold:
        """The manifold of a generator (the values of the setting `generator`), fitted for so many epochs.

        None means as many as its file says. `latent` is how it projects: to the "mean" of the encoder, to a "sample"
        of it, or to the nearest point that a descent from the mean finds ("opt"). All three are idle where the true
        manifold is known.
        """


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
    """Adversarial images, shape of `x` -> robust_accuracy, perturbation, invalid and margin, found by the harness."""
    refit: Callable[[Iterable[Refit]], Tensor]
    """Retrainings of the data set's reference classifier -> 0/1 correctness, shape (refits, n)."""
    manifold: FindManifold
    """The image manifold: the true one where the data set knows it, otherwise a generator's."""
    surrogate: Callable[[str], nn.Module]
    """Another classifier of the same data, trained by the trainer of this name (or file); in eval mode and frozen.

    The name is the value of the metric's setting `source: str`, or `referee: str`, or one of its values where it is a
    `tuple[str, ...]`. NotApplicable if that classifier is `model` itself.
    """
    mask: Callable[[], Tensor | None] = lambda: None
    """The pixels of `x` that carry the class, bool (n, H, W); None where the data set does not know them."""
    train_y: Tensor | None = None
    """Labels of `train_x`; the harness always has them."""

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
