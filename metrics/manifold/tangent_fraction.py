"""Share of a map that lies in the tangent space of the image manifold."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor

from metrics.attribution import AttributionName, Of, explain
from metrics.case import Case, Manifold, Scores, predict


def tangent_fraction(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    target: Literal["true", "predicted"] = "true",
) -> Scores:
    """How much of the map points along the manifold of images, at the manifold's point for each image.

    The manifold is the true one where the data set knows it (`planted`), otherwise the decoder of a VAE fitted to the
    training images.

    Label: Tangent {attribution}
    Formula: ||P a||_2 / ||a||_2, P the orthogonal projection onto the span of dD/dz at z, D(z) the image's point
    Measures:
        fraction (higher, 0..1): 1 for a map in the tangent space; sqrt(k/d) or a little less for random maps.
        chance (none, 0..1): sqrt(k/d) for k latents and d pixels.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        target: The class that is explained.
    Cost: one map per image and k forward-mode derivatives of the decoder
    Pitfalls: with a VAE the tangent space is the VAE's, not nature's; compare models on the same VAE only.
    Paper: Bordt et al. 2023, "The manifold hypothesis for gradient-based explanations"
    """
    manifold = case.manifold()
    with torch.no_grad():
        points = manifold.decode(manifold.latents)
    labels = case.y if target == "true" else predict(case.model, points)
    maps = explain(case.model, points, case.draws, attribution=attribution, of=of, target=labels)
    fraction = _fraction(tangents(manifold), maps)
    latents, pixels = manifold.latents.shape[1], maps[0].numel()
    return {"fraction": fraction, "chance": torch.full_like(fraction, (latents / pixels) ** 0.5)}


def tangents(manifold: Manifold) -> Tensor:
    """dD/dz at the latents, shape (n, k, d), one forward-mode derivative per latent."""
    z = manifold.latents
    with warnings.catch_warnings():
        # the first forward derivative of a process loads torch's own rules, by way of a deprecated function
        warnings.simplefilter("ignore", DeprecationWarning)
        columns = [
            torch.func.jvp(manifold.decode, (z,), (unit.expand_as(z).contiguous(),))[1].flatten(1)
            for unit in torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        ]
    return torch.stack(columns, 1)


def _fraction(basis: Tensor, maps: Tensor) -> Tensor:
    """Norm share of maps (n, ...) inside the row space of basis (n, k, d), shape (n,); NaN for a zero map."""
    t, a = basis.double(), maps.flatten(1).double()
    along = (t @ a.unsqueeze(2)).squeeze(2)
    # pseudo-inverse of the Gram matrix: right also where some latents do not move the image
    inside = (
        along
        * (torch.linalg.pinv(t @ t.mT, hermitian=True, rtol=1e-10) @ along.unsqueeze(2)).squeeze(2)
    ).sum(1)
    return (inside.clamp_min(0).sqrt() / a.norm(dim=1)).clamp_max(1).float()
