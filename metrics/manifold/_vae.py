"""A variational autoencoder as a stand-in for the image manifold, where the data set does not know its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metrics.case import in_batches
from metrics.randomness import Draws


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
    x: Tensor, seed: int, *, steps: int | None = None, batch: int = 128, lr: float = 3e-3
) -> VAE:
    """Train a VAE on images (n, C, H, W): L1 reconstruction on [-1, 1] plus KL, Adam with a one-cycle rate.

    Without `steps`, few images are seen 100 times each, many 10 times: 100,000 images in all, or 10 n.
    """
    steps = steps or math.ceil(max(10 * len(x), min(100 * len(x), 100_000)) / batch)
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(seed)
        vae = build_vae(x[0]).to(x.device)
    optimiser = torch.optim.Adam(vae.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=lr, total_steps=steps)
    for step in range(steps):
        draws = Draws(seed, torch.arange(batch, device=x.device)).fork("vae", step)
        images = x[(draws.uniform(1).squeeze(1) * len(x)).long()]
        loss = _loss(vae, images, draws)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return vae.eval().requires_grad_(False)


def _loss(vae: VAE, images: Tensor, draws: Draws) -> Tensor:
    mean, log_variance = vae.encode(images)
    z = mean + (log_variance / 2).exp() * draws.fork("latent").normal(vae.latents)
    reconstruction = 2 * (vae.decode(z) - images).abs().flatten(1).sum(1)
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)
    return (reconstruction + divergence).mean()


@dataclass(frozen=True)
class VaeManifold:
    """The images of a decoder, and the place of some images on it."""

    vae: VAE
    latents: Tensor

    @classmethod
    def at(cls, vae: VAE, x: Tensor) -> VaeManifold:
        """The decoder's manifold with the images `x` at their mean latents."""
        with torch.no_grad():
            return cls(vae, in_batches(lambda batch: vae.encode(batch)[0], x))

    def decode(self, z: Tensor) -> Tensor:
        """Images in (0, 1)."""
        return self.vae.decode(z)

    def project(self, x: Tensor) -> Tensor:
        """Encode to the mean and decode."""
        with torch.no_grad():
            return in_batches(lambda batch: self.vae.decode(self.vae.encode(batch)[0]), x)
