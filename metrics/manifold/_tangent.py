"""Tangent spaces of a manifold, and what of a vector lies in them."""

from __future__ import annotations

import warnings
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from metrics.case import Manifold

_LARGEST = 2**30
"""Bytes of the tangents that are kept."""

_kept: WeakKeyDictionary[Manifold, Tensor] = WeakKeyDictionary()


def tangents(manifold: Manifold) -> Tensor:
    """dD/dz at the latents, shape (n, k, d), one forward-mode derivative per latent.

    Kept as long as the manifold is, unless they are large: all maps of all models of a run are held against the same.
    """
    known = _kept.get(manifold)
    if known is None:
        known = _derivatives(manifold)
        if known.nbytes <= _LARGEST:
            _kept[manifold] = known
    return known


def _derivatives(manifold: Manifold) -> Tensor:
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
