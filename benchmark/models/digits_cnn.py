"""A small network for 8x8 and 16x16 images: learns the embedded digits in seconds on one core."""

from __future__ import annotations

from torch import nn

from benchmark.models.base import activation_layer, flat_features


def digits_cnn(
    *,
    channels: int,
    classes: int,
    size: int,
    activation: str = "relu",
    width: int = 16,
    hidden: int = 64,
) -> nn.Sequential:
    """Convolutions of `width` and twice as many channels, the second with stride 2; then `hidden` units."""
    act = activation_layer(activation)
    convolutions = [
        nn.Conv2d(channels, width, 3, 1, 1),
        act(),
        nn.Conv2d(width, 2 * width, 3, 2, 1),
    ]
    flat = flat_features(convolutions, channels=channels, size=size)
    head = [act(), nn.Flatten(), nn.Linear(flat, hidden), act(), nn.Linear(hidden, classes)]
    return nn.Sequential(*convolutions, *head)
