"""Distance of a model's adversarial examples to the image manifold."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from metrics import attacks
from metrics.case import Case, NotApplicable, Scores, in_batches, predict
from metrics.threat import L2


def reconstruction_distance(
    case: Case,
    *,
    eps: Annotated[float, Gt(0)] | None = None,
    steps: Annotated[int, Ge(1)] = 40,
    loss: Literal["xent", "margin"] = "xent",
    referee: str = "standard",
    generator: Literal["vae", "vae_gan"] = "vae",
    epochs: Annotated[int, Ge(1)] | None = None,
    latent: Literal["mean", "sample", "opt"] = "mean",
) -> Scores:
    """How far from the manifold a long walk up the model's own loss gradient leads.

    Every image is moved by the same number of equally long steps inside the same large L2 ball, and its pixels are cut
    to [0, 1] after each, which shortens the walk (`walked`). The distance is to the image's projection (encode and
    decode by a generator fitted to the training images, or the true manifold's nearest point), on the scale on which
    the clean images run from 0 to 1. Where these are all equally far (on `planted` they lie on the true manifold), it
    is the distance as a share of eps. Images whose move does not change the prediction of the referee, one and the same
    classifier for all models, are left out.

    The paper's own protocol is generator = "vae_gan" with epochs = 30 (colour: 150) and latent = "sample".

    Label: Manifold distance
    Formula: (||a - R(a)||_2 - min_clean) / (max_clean - min_clean), a = x after PGD without random start;
        ||a - R(a)||_2 / eps where max_clean - min_clean < eps / 1000
    Measures:
        distance (lower, unbounded): Normalised distance; 0..1 is the range of the clean images, or up to eps.
        auroc (lower, 0..1): Share of the clean images that are nearer, equally far ones half; its mean is the area
            under the ROC curve of the distance as a detector of moved images. Its interval takes clean ones as given.
        clean_distance (none, 0..inf): That of the unchanged images; at most 1 unless all are equally far.
        kept (none, 0..1): The referee's prediction changed.
        walked (none, 0..inf): L2 length of the move in pixel units, at most eps.
    Map: none; the walk follows the loss gradient with all its channels.
    Chance: not known for a walk in random directions; 0.5 for auroc where the moved images are no farther than others.
    Args:
        eps: L2 radius of the walk in pixel units; none means 6 sqrt(d / 784) for d < 784 pixels, otherwise the
            paper's 6.
        steps: Gradient steps, each of length 2 eps / 12.
        loss: What the walk climbs: cross-entropy, or the margin max_{k != y} z_k - z_y (the paper's "cw").
        referee: The trainer, or the file of one, whose model is the referee, trained by the suite's recipe with the
            same seed (the run's own, where it has one); "own" makes each model its own referee.
        generator: What projects: the plain VAE, or the paper's VAE-GAN.
        epochs: Passes over the training images that the generator is fitted for; none: 100,000 images in all, within
            10 to 100 passes (vae) or 2 to the paper's 30, for colour 150 (vae_gan).
        latent: What of the encoder's Gaussian is decoded: its mean; a sample, as in the paper (by the same random
            numbers for the clean and the moved image); or the latents of the nearest image that 100 steps of Adam from
            the mean find.
    Cost: `steps` gradients per image; a generator per data set: on one core about 1/4 hour for the VAE-GAN of 28x28
        grey images, hours for colour; training the referee where the run has none like it
    Pitfalls: a model whose walk is cut more stays nearer by that alone: read `walked` beside the distance. With the
        mean of an encoder that was never shown such images, the projection is not the nearest point. On the scale of
        the walk (`planted`) the numbers cannot be compared with those on the scale of the clean images.
    Paper: Kim, Seo & Jeon 2019, "Bridging adversarial robustness and gradient interpretability", section 2.1
    """
    manifold = case.manifold(generator, epochs, latent)
    length = 6 * min(1.0, (case.x[0].numel() / 784) ** 0.5) if eps is None else eps
    moved = _walked(case, length, steps, attacks.LOSSES[loss])
    judge = _referee(case, referee)
    kept = predict(judge, moved) != predict(judge, case.x)

    def distance(images: Tensor) -> Tensor:
        return (images - manifold.project(images)).flatten(1).norm(dim=1)

    clean, far = distance(case.x), distance(moved)
    zero, unit = _scale(clean, length)
    return {
        "distance": ((far - zero) / unit).where(kept, torch.nan),
        "auroc": share_below(far, clean).where(kept, torch.nan),
        "clean_distance": (clean - zero) / unit,
        "kept": kept.float(),
        "walked": (moved - case.x).flatten(1).norm(dim=1),
    }


def _walked(case: Case, length: float, steps: int, loss: attacks.Loss) -> Tensor:
    """The images after the walk up the loss of their true class."""

    def walk(x: Tensor, y: Tensor) -> Tensor:
        return attacks.pgd(
            case.model, x, y, L2(length), steps=steps, step_size=length / 6, loss=loss
        )

    return in_batches(walk, case.x, case.y)


def _referee(case: Case, name: str) -> nn.Module:
    if name == "own":
        return case.model
    try:
        return case.surrogate(name)
    except NotApplicable:  # the model that is measured is the referee
        return case.model


def _scale(clean: Tensor, length: float) -> tuple[Tensor, Tensor]:
    """The distance that counts as 0, and how much more counts as 1."""
    low, high = clean.min(), clean.max()
    if high - low < 1e-3 * length:  # rounding, not a difference between images
        return torch.zeros_like(low), torch.full_like(low, length)
    return low, high - low


def share_below(values: Tensor, reference: Tensor) -> Tensor:
    """For each value (n,) the share of the reference (m,) below it, ties half, shape (n,)."""
    ordered = reference.sort().values
    below = torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)
    return below / (2 * len(reference))
