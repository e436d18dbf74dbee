"""A variational autoencoder as a stand-in for the image manifold, where the data set does not know its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from metrics.randomness import Draws


class Autoencoder(Protocol):
    """Images to Gaussians of latents, and latents to images."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents of images in [0, 1], each (n, k)."""

    def decode(self, z: Tensor) -> Tensor:
        """Images in [0, 1] at the latents (n, k)."""


class VAE(nn.Module):
    """Two stride-2 convolutions to a Gaussian of `latents` dimensions, and back (Kingma & Welling 2014).

    SiLU throughout: the tangent space of a ReLU decoder jumps between its linear pieces.
    """

    def __init__(
        self, channels: int, height: int, width: int, latents: int, hidden: int = 32
    ) -> None:
        super().__init__()
        h, w = -(-height // 4), -(-width // 4)
        self.crop, self.latents = (height, width), latents
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, hidden, 4, 2, 1 + (height % 2)), nn.SiLU(),
            nn.Conv2d(hidden, 2 * hidden, 3, 2, 1), nn.SiLU(),
            nn.AdaptiveAvgPool2d((h, w)), nn.Flatten(), nn.Linear(2 * hidden * h * w, 2 * latents),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latents, 2 * hidden * h * w), nn.SiLU(), nn.Unflatten(1, (2 * hidden, h, w)),
            nn.ConvTranspose2d(2 * hidden, hidden, 4, 2, 1), nn.SiLU(),
            nn.ConvTranspose2d(hidden, channels, 4, 2, 1), nn.Sigmoid(),
        )  # fmt: skip

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, each (n, k)."""
        mean, log_variance = self.encoder(2 * x - 1).chunk(2, 1)
        return mean, log_variance.clamp(-10, 10)

    def decode(self, z: Tensor) -> Tensor:
        """Images in (0, 1)."""
        images: Tensor = self.decoder(z)[:, :, : self.crop[0], : self.crop[1]]
        return images


def build_vae(image: Tensor) -> VAE:
    """An untrained VAE for images like this one (C, H, W): 10 latents for grey, 128 for colour (Kim, Seo & Jeon)."""
    channels, height, width = image.shape
    return VAE(channels, height, width, latents=10 if channels == 1 else 128)


def fit_vae(
    x: Tensor, seed: int, *, epochs: int | None = None, batch: int = 128, lr: float = 3e-3
) -> VAE:
    """Train a VAE on images (n, C, H, W): L1 reconstruction on [-1, 1] plus KL, Adam with a one-cycle rate.

    Without `epochs`, few images are seen 100 times each, many 10 times: 100,000 images in all, or 10 n.
    """
    shown = epochs * len(x) if epochs else max(10 * len(x), min(100 * len(x), 100_000))
    steps = math.ceil(shown / batch)
    with seeded(seed, x.device):
        vae = build_vae(x[0]).to(x.device)
    optimiser = torch.optim.Adam(vae.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=lr, total_steps=steps)
    for images, draws in batches(x, seed, "vae", steps, batch):
        loss = _loss(vae, images, draws)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return vae.eval().requires_grad_(False)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """What is built inside is determined by the seed; torch's global generators stay as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def batches(
    x: Tensor, seed: int, name: str, steps: int, size: int
) -> Iterator[tuple[Tensor, Draws]]:
    """Images drawn with replacement, and the random numbers of their step."""
    places = torch.arange(size, device=x.device)
    for step in range(steps):
        draws = Draws(seed, places).fork(name, step)
        yield x[(draws.uniform(1).squeeze(1) * len(x)).long()], draws


def sample(mean: Tensor, log_variance: Tensor, draws: Draws) -> Tensor:
    """Latents from their Gaussians, (n, k)."""
    noise = draws.fork("latent").normal(mean.shape[1]).to(mean)
    return mean + (log_variance / 2).exp() * noise


def reconstruction_error(images: Tensor, reconstruction: Tensor) -> Tensor:
    """L1 distance on the scale [-1, 1], shape (n,)."""
    return 2 * (reconstruction - images).abs().flatten(1).sum(1)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of the latents' Gaussians from N(0, I), shape (n,)."""
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)


def _loss(vae: Autoencoder, images: Tensor, draws: Draws) -> Tensor:
    mean, log_variance = vae.encode(images)
    reconstruction = vae.decode(sample(mean, log_variance, draws))
    error = reconstruction_error(images, reconstruction)
    return (error + divergence(mean, log_variance)).mean()
