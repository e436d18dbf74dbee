"""Points and tangent spaces of a manifold, and what of a vector lies in them.

Of many or large images all tangents are more than memory holds (k images an image), so that the work on them is done
for a slice of the images at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from metrics.batching import in_slices
from metrics.case import Manifold
from metrics.randomness import Draws

_KEPT = 2**31
"""Bytes of the tangents that are kept: those of 1,000 images of CIFAR-10 at 128 latents are 1.6e9."""
_AT_ONCE = 2**30
"""Bytes of the tangents that are worked on at once, in float64."""
_ROWS = 250
"""Images that are worked on at once, at most."""

_kept: WeakKeyDictionary[Manifold, Tensor] = WeakKeyDictionary()


@torch.no_grad()
def points(manifold: Manifold) -> Tensor:
    """The manifold's point for each of its images, (n, C, H, W)."""

    def decoded(rows: slice) -> Tensor:
        part = manifold[rows]
        return part.decode(part.latents)

    return in_slices(decoded, len(manifold.latents), _ROWS)


def over_tangents(
    function: Callable[..., Tensor], manifold: Manifold, *tensors: Tensor | Draws
) -> Tensor:
    """`function(tangents, *slices)` over slices of the images, joined; `tensors` have a row an image.

    Tangents are kept as long as the manifold is, as all maps of all models of a run are held against the same ones;
    where they are large they are derived again, slice by slice, and never are all there.
    """
    n, k = manifold.latents.shape
    first = manifold[:1]
    with torch.no_grad():
        numbers = k * first.decode(first.latents)[0].numel()
    known = tangents(manifold) if 4 * n * numbers <= _KEPT else None

    def part(rows: slice) -> Tensor:
        basis = _derivatives(manifold[rows]) if known is None else known[rows]
        return function(basis, *(tensor[rows] for tensor in tensors))

    return in_slices(part, n, max(1, min(_ROWS, _AT_ONCE // (8 * numbers))))


def tangents(manifold: Manifold) -> Tensor:
    """dD/dz at all latents, shape (n, k, d), one forward-mode derivative per latent; kept."""
    if manifold not in _kept:
        _kept[manifold] = in_slices(
            lambda rows: _derivatives(manifold[rows]), len(manifold.latents), _ROWS
        )
    return _kept[manifold]


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
