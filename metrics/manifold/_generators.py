"""The images of a fitted generator as a manifold, and the ways to project an image onto it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from metrics.case import in_batches
from metrics.manifold._vae import VAE, Autoencoder, build_vae, fit_vae, sample
from metrics.manifold._vae_gan import VaeGan, build_vae_gan, fit_vae_gan
from metrics.randomness import Draws


class Generator(NamedTuple):
    """How a generator comes to be; its file is `_<name>.py`."""

    build: Callable[[Tensor], VAE | VaeGan]
    """Image (C, H, W) -> an untrained one for images of this shape."""
    fit: Callable[..., VAE | VaeGan]
    """(images, seed, *, epochs) -> a trained one in eval mode, frozen."""


GENERATORS: dict[str, Generator] = {
    "vae": Generator(build_vae, fit_vae),
    "vae_gan": Generator(build_vae_gan, fit_vae_gan),
}


def _mean(vae: Autoencoder, x: Tensor, draws: Draws) -> Tensor:
    return vae.encode(x)[0]


def _sample(vae: Autoencoder, x: Tensor, draws: Draws) -> Tensor:
    return sample(*vae.encode(x), draws)


def _nearest(vae: Autoencoder, x: Tensor, draws: Draws) -> Tensor:
    """The best of 100 steps of Adam on ||D(z) - x||^2 from the mean: never further from x than that."""
    best = vae.encode(x)[0]
    nearest = torch.full_like(best[:, :1], torch.inf)
    z = best.clone().requires_grad_()
    optimiser = torch.optim.Adam([z], lr=0.05)
    for _ in range(101):
        with torch.enable_grad():
            error = (vae.decode(z) - x).square().flatten(1).sum(1, keepdim=True)
            (z.grad,) = torch.autograd.grad(error.sum(), z)
        best, nearest = z.detach().where(error < nearest, best), error.detach().minimum(nearest)
        optimiser.step()
    return best


LATENTS: dict[str, Callable[[Autoencoder, Tensor, Draws], Tensor]] = {
    "mean": _mean,
    "sample": _sample,
    "opt": _nearest,
}
"""Images (n, C, H, W) -> the latents (n, k) of their projections."""


@dataclass(frozen=True, eq=False)
class VaeManifold:
    """The images of a decoder, and the place of some images on it (metrics.case.Manifold)."""

    vae: Autoencoder
    latents: Tensor
    draws: Draws
    latent: str = "mean"

    @classmethod
    def at(
        cls, vae: Autoencoder, x: Tensor, draws: Draws | None = None, latent: str = "mean"
    ) -> VaeManifold:
        """The decoder's manifold with the images `x` at their mean latents.

        Projection is by `latent`, one of LATENTS; "sample" takes the numbers of `draws`, which belong to the images.
        """
        draws = draws or Draws(0, torch.arange(len(x), device=x.device))
        with torch.no_grad():
            return cls(vae, in_batches(lambda batch: vae.encode(batch)[0], x), draws, latent)

    def __getitem__(self, rows: slice) -> VaeManifold:
        return replace(self, latents=self.latents[rows], draws=self.draws[rows])

    def decode(self, z: Tensor) -> Tensor:
        """Images in (0, 1)."""
        return self.vae.decode(z)

    def project(self, x: Tensor) -> Tensor:
        """Encode, as `latent` says, and decode."""

        def projected(images: Tensor, draws: Draws) -> Tensor:
            return self.vae.decode(LATENTS[self.latent](self.vae, images, draws))

        with torch.no_grad():
            return in_batches(projected, x, self.draws[: len(x)])
