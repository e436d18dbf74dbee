"""The smooth generator behind `planted`: 17 numbers -> an image, with exact derivatives and a nearest-point search.

A latent is a number in [-1, 1] for each cause of the image (the bar's orientation counts class steps of 45 degrees
instead). Nothing is clipped: the budget of amplitudes keeps every image strictly inside (0, 1).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacfwd, vmap

SIZE = 16
CLASSES = 4

RANGES: dict[str, tuple[float, float]] = {
    "angle": (0.0, torch.pi / CLASSES),
    "x": (0.0, 2.0),
    "y": (0.0, 2.0),
    "length": (3.6, 0.6),
    "width": (1.3, 0.2),
    "contrast": (0.55, 0.07),
    "background": (0.14, 0.02),
    "tilt x": (0.0, 0.015),
    "tilt y": (0.0, 0.015),
    # left and right: where the blobs lie on each other, the tangent space loses dimensions
    "blob 1 x": (-4.0, 2.0),
    "blob 2 x": (4.0, 2.0),
    "blob 1 y": (0.0, 5.0),
    "blob 2 y": (0.0, 5.0),
    "blob 1 intensity": (0.10, 0.03),
    "blob 2 intensity": (0.10, 0.03),
    "blob 1 radius": (1.5, 0.3),
    "blob 2 radius": (1.5, 0.3),
}
"""Cause -> value at latent 0 and change per unit; lengths in pixels from the centre."""

LATENTS = len(RANGES)


def causes(z: Tensor) -> dict[str, Tensor]:
    """The physical values (..., 1, 1) at the latents (..., 17), by name."""
    # as one product: forward derivatives of 0-dimensional values times Python numbers come out as float64
    centre, scale = z.new_tensor(list(RANGES.values())).T
    values = (centre + scale * z).movedim(-1, 0)[..., None, None]
    return dict(zip(RANGES, values, strict=True))


def _grid(like: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel coordinates from the centre: right (1, W) and down (H, 1)."""
    axis = torch.arange(SIZE, dtype=like.dtype, device=like.device) - (SIZE - 1) / 2
    return axis[None, :], axis[:, None]


def bar(z: Tensor) -> Tensor:
    """The bar's share of its contrast in every pixel, (..., H, W): the pixels that carry the class."""
    right, down = _grid(z)
    of = causes(z)
    right, down = right - of["x"], down - of["y"]
    along = right * of["angle"].cos() + down * of["angle"].sin()
    across = down * of["angle"].cos() - right * of["angle"].sin()
    return (-((along / of["length"]) ** 2 + (across / of["width"]) ** 2) / 2).exp()


def smooth(z: Tensor) -> Tensor:
    """Images without the shortcut, (..., H, W), at the latents (..., 17)."""
    right, down = _grid(z)
    of = causes(z)
    image = (
        of["background"]
        + (of["tilt x"] * right + of["tilt y"] * down) / (SIZE / 2)
        + of["contrast"] * bar(z)
    )
    for blob in ("blob 1", "blob 2"):
        squared = (right - of[f"{blob} x"]) ** 2 + (down - of[f"{blob} y"]) ** 2
        image = image + of[f"{blob} intensity"] * (-squared / of[f"{blob} radius"] ** 2 / 2).exp()
    return image


def jacobian(z: Tensor) -> Tensor:
    """The derivative of every pixel, (n, H*W, 17): its columns span the tangent space."""
    with warnings.catch_warnings():
        # the first forward derivative of a process loads torch's own rules, by way of a deprecated function
        warnings.simplefilter("ignore", DeprecationWarning)
        return vmap(jacfwd(smooth))(z).flatten(1, 2)


def patterns() -> Tensor:
    """A sign for each pixel and class, (4, H, W): the finest stripes, orthogonal to each other."""
    right, down = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy")
    exponents = torch.stack([right, down, right + down, right + down // 2])
    return 1.0 - 2.0 * (exponents % 2)


@dataclass(eq=False)
class Planted:
    """The manifold at some images (metrics.case.Manifold): row i of any argument belongs to image i.

    Arguments may have fewer rows than there are images; they are then the first ones.
    """

    latents: Tensor
    """(n, 17)"""
    offsets: Tensor
    """The shortcut in each image, (n, H, W)."""

    def __getitem__(self, rows: slice) -> Planted:
        return Planted(self.latents[rows], self.offsets[rows])

    def decode(self, z: Tensor) -> Tensor:
        """Images (n, 1, H, W): the smooth generator plus the shortcut of image i's class."""
        return (smooth(z) + self._rows(z)).unsqueeze(1)

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the manifold to each image, found from the image's own latents.

        Levenberg-Marquardt (Marquardt 1963): Gauss-Newton steps, damped more after a step that led away.
        """
        target = x.squeeze(1) - self._rows(x)
        z = self.latents[: len(x)]
        damping = torch.full_like(z[:, :1], 1e-3)
        error = (smooth(z) - target).square().sum((1, 2))
        for _ in range(15):
            trial = z + _step(z, target, damping)
            after = (smooth(trial) - target).square().sum((1, 2))
            better = (after < error)[:, None]
            z, error = torch.where(better, trial, z), torch.where(better[:, 0], after, error)
            damping = torch.where(better, damping / 4, damping * 8)
        return self.decode(z)

    def _rows(self, rows: Tensor) -> Tensor:
        if len(rows) > len(self.offsets):
            raise ValueError(
                f"the planted manifold is known at {len(self.offsets)} images, got {len(rows)} rows"
            )
        return self.offsets[: len(rows)].to(rows)


def _step(z: Tensor, target: Tensor, damping: Tensor) -> Tensor:
    """The damped Gauss-Newton step (n, 17); no numbers where rounding left none: no step that leads nearer."""
    tangent = jacobian(z)
    residual = (target - smooth(z)).flatten(1)
    normal = tangent.mT @ tangent
    # Marquardt's scaling: each latent is damped in its own unit
    normal = normal + torch.diag_embed(damping * normal.diagonal(dim1=1, dim2=2) + 1e-9)
    step, _ = torch.linalg.solve_ex(normal, tangent.mT @ residual[..., None])
    return step.squeeze(-1)
