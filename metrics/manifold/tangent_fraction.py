"""Share of a map that lies in the tangent space of the image manifold."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Scores, predict
from metrics.manifold._tangent import coordinates, over_tangents, points
from metrics.maps import Target


def tangent_fraction(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    target: Target = "true",
    generator: Literal["vae", "vae_gan"] = "vae",
    epochs: Annotated[int, Ge(1)] | None = None,
) -> Scores:
    """How much of the map points along the manifold of images, at the manifold's point for each image.

    The manifold is the true one where the data set knows it (`planted`), otherwise the decoder of a generator fitted
    to the training images.

    Label: Tangent {attribution}
    Formula: ||P a||_2 / ||a||_2, P the orthogonal projection onto the span of dD/dz at z, D(z) the image's point
    Measures:
        fraction (higher, 0..1): 1 for a map in the tangent space; sqrt(k/d) or a little less for random maps.
        chance (none, 0..1): sqrt(k/d) for k latents and d pixels, at most 1.
    Map: signed, every channel of a pixel a number of its own. No `reduction`: the tangent space is one of images with
        all their channels.
    Chance: `chance`, sqrt(k/d), or a little less for random maps of d values.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        target: The class that is explained; the true one unless told otherwise, where most measures of maps take the
            predicted one. The map is of the manifold's point, at which models may predict another class than at the
            image, each its own; "predicted" is the class predicted there.
        generator: Whose decoder stands for the manifold.
        epochs: Passes over the training images that the generator is fitted for; none: 100,000 images in all, within
            10 to 100 passes (vae) or 2 to the paper's 30, for colour 150 (vae_gan).
    Cost: one map per image and k forward-mode derivatives of the decoder; one generator per data set
    Pitfalls: with a generator the tangent space is the generator's, not nature's; compare models on the same one only.
        That of vae_gan, whose decoder has ReLU units, jumps between their linear pieces.
    Paper: Bordt et al. 2023, "The manifold hypothesis for gradient-based explanations"
    """
    manifold = case.manifold(generator, epochs)
    x = points(manifold)
    labels = case.y if target == "true" else predict(case.model, x)
    maps = explain(case.model, x, case.draws, attribution=attribution, of=of, target=labels)
    fraction = over_tangents(_fraction, manifold, maps)
    pixels = maps[0].numel()
    latents = min(manifold.latents.shape[1], pixels)  # no more of them are independent
    return {"fraction": fraction, "chance": torch.full_like(fraction, (latents / pixels) ** 0.5)}


def _fraction(basis: Tensor, maps: Tensor) -> Tensor:
    """Norm share of maps (n, ...) inside the row space of basis (n, k, d), shape (n,); NaN for a zero map."""
    t, a = basis.double(), maps.flatten(1).double()
    along = t @ a.unsqueeze(2)
    inside = (along * coordinates(t, along)).sum((1, 2))
    return (inside.clamp_min(0).sqrt() / a.norm(dim=1)).clamp_max(1).float()
