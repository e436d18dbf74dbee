"""A multilayer perceptron on the pixels."""

from __future__ import annotations

from torch import nn

from benchmark.models.base import activation_layer


def mlp(
    *,
    channels: int,
    classes: int,
    size: int,
    activation: str = "relu",
    hidden: int = 128,
    depth: int = 1,
) -> nn.Sequential:
    """`depth` hidden layers of `hidden` units."""
    act = activation_layer(activation)
    layers: list[nn.Module] = [nn.Flatten()]
    width = channels * size * size
    for _ in range(depth):
        layers += [nn.Linear(width, hidden), act()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, classes))
