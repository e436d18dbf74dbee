"""Tangent spaces of a manifold, and what of a vector lies in them."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from metrics.case import Manifold


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


def coordinates(basis: Tensor, along: Tensor) -> Tensor:
    """Those of vectors projected onto the row space of basis (n, k, d), given their products with its rows, (n, k, m).

    By the pseudo-inverse of the Gram matrix: right also where some latents do not move the image.
    """
    return torch.linalg.pinv(basis @ basis.mT, hermitian=True, rtol=1e-10) @ along


def projection(basis: Tensor, vectors: Tensor) -> Tensor:
    """Orthogonal projection of m vectors each (n, m, d) onto the row space of basis (n, k, d), in float64."""
    t, v = basis.double(), vectors.double()
    return coordinates(t, t @ v.mT).mT @ t
