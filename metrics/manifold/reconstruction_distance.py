"""Distance of a model's adversarial examples to the image manifold."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from metrics import attacks
from metrics.case import Case, Scores, in_batches, predict
from metrics.threat import L2


def reconstruction_distance(
    case: Case,
    *,
    eps: Annotated[float, Gt(0)] | None = None,
    steps: Annotated[int, Ge(1)] = 40,
) -> Scores:
    """How far from the manifold a long walk up the model's own loss gradient leads.

    Every image is moved by the same large L2 distance, so that only the direction differs between models; the
    distance is to the image's projection (encode and decode by a VAE fitted to the training images, or the true
    manifold's nearest point), on the scale on which the clean images run from 0 to 1. Where these are all equally far
    (on `planted` they lie on the true manifold), it is the share of the walk that left the manifold.

    Label: Manifold distance
    Formula: (||a - R(a)||_2 - min_clean) / (max_clean - min_clean), a = x after PGD without random start;
        ||a - R(a)||_2 / eps where max_clean - min_clean < eps / 1000
    Measures:
        distance (lower, unbounded): Normalised distance; 0..1 is the range of the clean images, or from the manifold to
            the walk's length. Images whose prediction the walk does not change are left out.
        clean_distance (none, 0..1): The same for the unchanged images.
    Args:
        eps: L2 length of the walk in pixel units; none means 6 sqrt(d / 784) for d < 784 pixels, otherwise the
            paper's 6.
        steps: Gradient steps, each of length 2 eps / 12.
    Cost: `steps` gradients per image, and one VAE per data set
    Pitfalls: the paper keeps the images whose move also fools a standard-trained referee, and projects with a VAE-GAN;
        here the model itself is the referee and a plain VAE projects. On the scale of the walk (`planted`) the numbers
        cannot be compared with those on the scale of the clean images.
    Paper: Kim, Seo & Jeon 2019, "Bridging adversarial robustness and gradient interpretability", section 2.1
    """
    manifold = case.manifold()
    pixels = case.x[0].numel()
    walk = L2(6 * min(1.0, (pixels / 784) ** 0.5) if eps is None else eps)

    def attack(x: Tensor, y: Tensor) -> Tensor:
        return attacks.pgd(case.model, x, y, walk, steps=steps, step_size=walk.eps / 6)

    before = predict(case.model, case.x)
    moved = in_batches(attack, case.x, case.y)
    changed = predict(case.model, moved) != before

    def distance(images: Tensor) -> Tensor:
        return (images - manifold.project(images)).flatten(1).norm(dim=1)

    clean = distance(case.x)
    zero, unit = _scale(clean, walk.eps)
    far = (distance(moved) - zero) / unit
    return {"distance": far.where(changed, torch.nan), "clean_distance": (clean - zero) / unit}


def _scale(clean: Tensor, length: float) -> tuple[Tensor, Tensor]:
    """The distance that counts as 0, and how much more counts as 1."""
    low, high = clean.min(), clean.max()
    if high - low < 1e-3 * length:  # rounding, not a difference between images
        return torch.zeros_like(low), torch.full_like(low, length)
    return low, high - low
