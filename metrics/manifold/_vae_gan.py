"""The VAE-GAN of Kim, Seo & Jeon 2019: an autoencoder whose decoder must also convince a critic."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from metrics.manifold._vae import (
    Autoencoder,
    batches,
    divergence,
    reconstruction_error,
    sample,
    seeded,
)
from metrics.manifold._vae_gan_networks import Design, design_for, halvings, initialise
from metrics.randomness import Draws


class VaeGan(nn.Module):
    """Encoder and decoder; the critic is not needed once they are trained."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, each (n, k)."""
        mean, log_variance = self.encoder(2 * x - 1).chunk(2, 1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Images in (0, 1)."""
        images: Tensor = (self.decoder(z) + 1) / 2
        return images


def build_vae_gan(image: Tensor) -> VaeGan:
    """An untrained VAE-GAN for images like this one (C, H, W): 10 latents for grey, 128 for colour."""
    design, channels, sizes = design_for(image), image.shape[0], halvings(image)
    arguments = (channels, sizes, design.latents)
    vae = VaeGan(design.encoder(*arguments), design.decoder(*arguments))
    return vae.apply(initialise)


def build_critic(image: Tensor) -> nn.Sequential:
    """An untrained critic for images like this one: images in [-1, 1] -> probability of being real, (n, 1)."""
    return design_for(image).critic(image.shape[0], halvings(image)).apply(initialise)


def fit_vae_gan(x: Tensor, seed: int, *, epochs: int | None = None, batch: int = 100) -> VaeGan:
    """Train a VAE-GAN on images (n, C, H, W) with the paper's losses and optimisers.

    Without `epochs`, 100,000 images are seen in all: at least 2 epochs, at most the paper's 30 (colour: 150).
    """
    design = design_for(x[0])
    epochs = epochs or min(design.epochs, max(2, math.ceil(100_000 / len(x))))
    with seeded(seed, x.device):
        vae, critic = build_vae_gan(x[0]).to(x.device), build_critic(x[0]).to(x.device)
    encode, decode, judge = (
        _Player(module, design) for module in (vae.encoder, vae.decoder, critic)
    )
    steps = math.ceil(epochs * len(x) / batch)
    for images, draws in batches(x, seed, "vae_gan", steps, batch):
        encode.descend(encoder_loss(vae, images, draws.fork("encoder")))
        decode.descend(decoder_loss(vae, critic, images, design.weight, draws.fork("decoder")))
        for turn in range(design.critic_steps):
            judge.descend(critic_loss(vae, critic, images, draws.fork("critic", turn)))
    return vae.eval().requires_grad_(False)


def encoder_loss(vae: Autoencoder, images: Tensor, draws: Draws) -> Tensor:
    """mean(|x - x_r| + KL), x_r the reconstruction."""
    mean, log_variance = vae.encode(images)
    reconstruction = vae.decode(sample(mean, log_variance, draws))
    error = reconstruction_error(images, reconstruction)
    return (error + divergence(mean, log_variance)).mean()


def decoder_loss(
    vae: Autoencoder, critic: nn.Module, images: Tensor, weight: float, draws: Draws
) -> Tensor:
    """mean(weight |x - x_r| - log D(x_r) - log D(x_p)), x_p decoded from N(0, I)."""
    reconstruction, invented = _fakes(vae, images, draws)
    error = reconstruction_error(images, reconstruction)
    praise = _log(_judged(critic, reconstruction)) + _log(_judged(critic, invented))
    return (weight * error - praise).mean()


def critic_loss(vae: Autoencoder, critic: nn.Module, images: Tensor, draws: Draws) -> Tensor:
    """-mean(log D(x) + log(1 - D(x_r)) + log(1 - D(x_p)))."""
    with torch.no_grad():
        fakes = _fakes(vae, images, draws)
    told = [_log(1 - _judged(critic, fake)) for fake in fakes]
    return -(_log(_judged(critic, images)) + told[0] + told[1]).mean()


def _fakes(vae: Autoencoder, images: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Reconstructions, and images decoded from N(0, I)."""
    with torch.no_grad():
        mean, log_variance = vae.encode(images)
    invented = draws.fork("prior").normal(mean.shape[1]).to(mean)
    return vae.decode(sample(mean, log_variance, draws)), vae.decode(invented)


def _judged(critic: nn.Module, images: Tensor) -> Tensor:
    probability: Tensor = critic(2 * images - 1)
    return probability.squeeze(1)


def _log(probability: Tensor) -> Tensor:
    return (probability + 1e-8).log()


class _Player:
    """One of the three networks with its own optimiser."""

    def __init__(self, network: nn.Module, design: Design) -> None:
        self.parameters = list(network.parameters())
        self.optimiser = torch.optim.Adam(self.parameters, lr=design.lr, betas=design.betas)

    def descend(self, loss: Tensor) -> None:
        """A step down the loss, which leaves the other networks' gradients alone."""
        self.optimiser.zero_grad()
        loss.backward(inputs=self.parameters)
        self.optimiser.step()
