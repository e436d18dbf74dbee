"""The medium CIFAR-10 network of the Marabou benchmark in VNN-COMP 2021: two convolutions, three linear layers.

Parameter keys 0, 2, 5, 7, 9.
"""

from __future__ import annotations

from torch import nn

from benchmark.models.base import activation_layer, flat_features


def marabou_medium(
    *, channels: int, classes: int, size: int, activation: str = "relu"
) -> nn.Sequential:
    """Convolutions of 16 and 32 channels, kernel 4, stride 2, no padding; then 128 and 64 units."""
    act = activation_layer(activation)
    convolutions = [nn.Conv2d(channels, 16, 4, 2), act(), nn.Conv2d(16, 32, 4, 2)]
    flat = flat_features(convolutions, channels=channels, size=size)
    head = [
        act(),
        nn.Flatten(),
        nn.Linear(flat, 128),
        act(),
        nn.Linear(128, 64),
        act(),
        nn.Linear(64, classes),
    ]
    return nn.Sequential(*convolutions, *head)
