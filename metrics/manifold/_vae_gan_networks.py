"""The networks of Kim, Seo & Jeon's VAE-GAN, for grey and for colour images.

On other sizes than theirs (28 and 32 pixels) they have as many convolutions of stride 2 as fit. BatchNorm stands after
the activation, convolutions are padded as TensorFlow's "same". Of theirs, only the critic's spectral norm differs:
torch's, of the kernel as a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

Size = tuple[int, int]


class Design(NamedTuple):
    """Networks and their training."""

    latents: int
    lr: float
    betas: tuple[float, float]
    weight: float
    """Of the reconstruction in the decoder's loss."""
    critic_steps: int
    """Of the critic for each of encoder and decoder."""
    epochs: int
    """The paper's."""
    encoder: Callable[[int, Sequence[Size], int], nn.Sequential]
    decoder: Callable[[int, Sequence[Size], int], nn.Sequential]
    critic: Callable[[int, Sequence[Size]], nn.Sequential]


def halvings(image: Tensor) -> list[Size]:
    """Height and width, halved (rounding up) for as long as 4 pixels are left."""
    sizes = [(image.shape[1], image.shape[2])]
    while min(half := _half(sizes[-1])) >= 4:
        sizes.append(half)
    return sizes


def _half(size: Size) -> Size:
    return -(-size[0] // 2), -(-size[1] // 2)


def _grey_encoder(channels: int, sizes: Sequence[Size], latents: int) -> nn.Sequential:
    return _encoder(channels, sizes, latents, kernel=4)


def _colour_encoder(channels: int, sizes: Sequence[Size], latents: int) -> nn.Sequential:
    return _encoder(channels, sizes, latents, kernel=5)


def _encoder(channels: int, sizes: Sequence[Size], latents: int, kernel: int) -> nn.Sequential:
    widths = [channels, *_growing([64, 128, 256], len(sizes) - 1)]
    layers: list[nn.Module] = []
    for before, after, size in zip(widths, widths[1:], sizes, strict=False):
        layers += [*_down(before, after, kernel, size), nn.ReLU(), _normal(after)]
    flat = widths[-1] * math.prod(sizes[-1])
    normal = nn.BatchNorm1d(2 * latents, eps=1e-3, momentum=0.01)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 2 * latents), normal)


def _grey_decoder(channels: int, sizes: Sequence[Size], latents: int) -> nn.Sequential:
    climb = [*sizes, _half(sizes[-1])][::-1]
    widths = [256, *_shrinking([256, 128, 32], len(climb) - 2), channels]
    flat = 256 * math.prod(climb[0])
    normal = nn.BatchNorm1d(flat, eps=1e-3, momentum=0.01)
    layers = [nn.Linear(latents, flat), nn.ReLU(), normal, nn.Unflatten(1, (256, *climb[0]))]
    for i in range(len(climb) - 1):
        layers += _up(widths[i], widths[i + 1], climb[i], climb[i + 1])
        if i < len(climb) - 2:
            layers += [nn.ReLU(), _normal(widths[i + 1])]
    return nn.Sequential(*layers, nn.Tanh())


def _colour_decoder(channels: int, sizes: Sequence[Size], latents: int) -> nn.Sequential:
    climb = sizes[::-1]
    widths = [512, *_shrinking([256, 128, 64], len(climb) - 1)]
    flat = 512 * math.prod(climb[0])
    layers = [nn.Linear(latents, flat), nn.Unflatten(1, (512, *climb[0]))]
    for i in range(len(climb) - 1):
        layers += _up(widths[i], widths[i + 1], climb[i], climb[i + 1])
        layers += [nn.ReLU(), _normal(widths[i + 1])]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, padding=1), nn.Tanh())


def _grey_critic(channels: int, sizes: Sequence[Size]) -> nn.Sequential:
    widths = [channels, *_growing([32, 128, 256], len(sizes))]
    layers: list[nn.Module] = []
    for i, size in enumerate(sizes):
        layers += [*_down(widths[i], widths[i + 1], 4, size), nn.ReLU()]
        layers += [_normal(widths[i + 1])] if i else []
    flat = widths[-1] * math.prod(_half(sizes[-1]))
    normal = nn.BatchNorm1d(512, eps=1e-3, momentum=0.01)
    head = [nn.Linear(flat, 512), nn.ReLU(), normal, nn.Linear(512, 1), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Flatten(), *head)


def _colour_critic(channels: int, sizes: Sequence[Size]) -> nn.Sequential:
    widths = _growing([64, 128, 256, 512], len(sizes))
    layers: list[nn.Module] = [_bounded(nn.Conv2d(channels, 64, 3, padding=1))]
    for before, after, size in zip(widths, widths[1:], sizes, strict=False):
        pad, halving = _down(before, before, 4, size)
        layers += [nn.LeakyReLU(0.1), pad, _bounded(halving), nn.LeakyReLU(0.1)]
        layers += [_bounded(nn.Conv2d(before, after, 3, padding=1))]
    flat = widths[-1] * math.prod(sizes[-1])
    return nn.Sequential(*layers, nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(flat, 1), nn.Sigmoid())


GREY = Design(10, 5e-4, (0.5, 0.9), 5e-3, 1, 30, _grey_encoder, _grey_decoder, _grey_critic)
COLOUR = Design(
    128, 2e-4, (0.0, 0.9), 1e-2, 5, 150, _colour_encoder, _colour_decoder, _colour_critic
)


def design_for(image: Tensor) -> Design:
    return GREY if image.shape[0] == 1 else COLOUR


def _growing(widths: list[int], count: int) -> list[int]:
    """The first `count` of the widths, the last one repeated."""
    return [*widths, *widths[-1:] * count][:count]


def _shrinking(widths: list[int], count: int) -> list[int]:
    """The last `count` of the widths, the first one repeated."""
    return _growing(widths[::-1], count)[::-1]


def _down(before: int, after: int, kernel: int, size: Size) -> tuple[nn.Module, nn.Conv2d]:
    """Padding and convolution from a size to its half, rounded up."""
    room = [2 * (half - 1) + kernel - full for full, half in zip(size, _half(size), strict=True)]
    (top, left), (bottom, right) = ([r // 2 for r in room], [r - r // 2 for r in room])
    return nn.ZeroPad2d((left, right, top, bottom)), nn.Conv2d(before, after, kernel, stride=2)


def _up(before: int, after: int, small: Size, large: Size) -> list[nn.Module]:
    """Transposed convolution from a size to another: doubled and cut, or (their 4 to 7) widened by the kernel."""
    if large == (small[0] + 3, small[1] + 3) and large != (2 * small[0], 2 * small[1]):
        return [nn.ConvTranspose2d(before, after, 4)]
    # negative padding cuts
    cut = nn.ZeroPad2d((0, large[1] - 2 * small[1], 0, large[0] - 2 * small[0]))
    return [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), cut]


def _normal(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _bounded(layer: nn.Conv2d) -> nn.Module:
    """Initialised and with spectral norm 1."""
    initialise(layer)
    return spectral_norm(layer)


def initialise(layer: nn.Module) -> None:
    """Glorot's uniform weights and zero biases, TensorFlow's default."""
    if is_parametrized(layer):  # it is already
        return
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
