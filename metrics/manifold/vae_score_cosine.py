"""Likeness of a model's gradient to the score of the image distribution, as a VAE estimates it."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor

from metrics import attacks
from metrics.attribution import explain
from metrics.case import Case, NotApplicable, Scores, in_batches
from metrics.manifold._cosine import cosine
from metrics.maps import Target, explained_class


def vae_score_cosine(
    case: Case,
    *,
    of: Literal["log_odds", "logit", "log_probability", "margin", "logit_sum"] = "log_odds",
    generator: Literal["vae", "vae_gan"] = "vae",
    epochs: Annotated[int, Ge(1)] | None = None,
    target: Target = "predicted",
) -> Scores:
    """Whether the gradient is large where an autoencoder would change the image.

    The way from an image to its reconstruction stands for the score, the gradient of the log-density of images (Alain &
    Bengio 2014), for which the paper takes a diffusion model and compares by LPIPS: networks that this suite does not
    bring.

    Label: VAE-score cosine
    Formula: cos(|g|, |R(x) - x|), g = grad_x s, R(x) the decoded mean of the encoder
    Measures:
        cosine (higher, 0..1): 1 where the two are proportional.
        chance (none, 0..1): What Gaussian noise in the place of g would score, sqrt(2 / (pi d)) ||s||_1 / ||s||_2 for d
            pixels and s = R(x) - x.
    Map: absolute values of the gradient, every channel of a pixel a number of its own. No `reduction`: it is compared
        with what the autoencoder changes in every channel.
    Chance: `chance`, for Gaussian gradients.
    Args:
        of: The scalar s: one of the explained class, or the sum of all logits as in the paper. That sum is arbitrary by
            any function that is added to all logits.
        generator: What reconstructs.
        epochs: Passes over the training images that the generator is fitted for; none: 100,000 images in all, within
            10 to 100 passes (vae) or 2 to the paper's 30, for colour 150 (vae_gan).
        target: The class that is explained; idle for the sum of all logits.
    Cost: one gradient and one reconstruction per image; one generator per data set
    Pitfalls: absolute values of any two maps are alike to a degree: read it against `chance`. Corrections are spread
        over the image, so a gradient that is spread out scores higher than one on few pixels, and noise highest of all:
        with a VAE on `planted` a standard model beats a robust one, and neither reaches chance. Has no meaning where
        images lie on the known manifold (`planted` itself).
    Paper: Srinivas, Bordt & Lakkaraju 2023, "Which models have perceptually-aligned gradients? An explanation via
        off-manifold robustness"
    """
    score = (case.manifold(generator, epochs).project(case.x) - case.x).flatten(1).abs()
    if score.max() < 1e-5:
        raise NotApplicable("the images lie on the manifold, where the score is 0")
    pixels = score.shape[1]
    length = score.norm(dim=1)
    chance = math.sqrt(2 / (math.pi * pixels)) * score.sum(1) / length
    return {"cosine": cosine(_gradient(case, of, target).abs(), score), "chance": chance}


def _gradient(case: Case, of: str, target: Target) -> Tensor:
    if of != "logit_sum":
        label = explained_class(case, target)
        return explain(case.model, case.x, case.draws, of=of, target=label)  # type: ignore[arg-type]

    def total(x: Tensor) -> Tensor:
        return attacks.input_gradient(lambda images: case.model(images).sum(1), x)

    with attacks.frozen(case.model):
        return in_batches(total, case.x)
