"""The MNIST network of advertorch's examples (Ding, Wang & Jin 2019, arXiv 1902.07623): keys conv1 to linear2."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from benchmark.models.base import activation_layer, flat_features


def lenet5(*, channels: int, classes: int, size: int, activation: str = "relu") -> nn.Sequential:
    """Two pooled 3x3 convolutions of 32 and 64 channels, then 200 units."""
    act = activation_layer(activation)
    features: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(channels, 32, 3, padding=1),
        "act1": act(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(32, 64, 3, padding=1),
        "act2": act(),
        "pool2": nn.MaxPool2d(2),
    }
    flat = flat_features(list(features.values()), channels=channels, size=size)
    head = {
        "flatten": nn.Flatten(),
        "linear1": nn.Linear(flat, 200),
        "act3": act(),
        "linear2": nn.Linear(200, classes),
    }
    return nn.Sequential(OrderedDict(features | head))
