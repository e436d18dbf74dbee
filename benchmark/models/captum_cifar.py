"""The CIFAR-10 network of captum's tutorial and PyTorch's (a LeNet): keys conv1, conv2, fc1, fc2, fc3."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from benchmark.models.base import activation_layer, flat_features


def captum_cifar(
    *, channels: int, classes: int, size: int, activation: str = "relu"
) -> nn.Sequential:
    """Two pooled 5x5 convolutions of 6 and 16 channels, then 120 and 84 units."""
    act = activation_layer(activation)
    features: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(channels, 6, 5),
        "act1": act(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(6, 16, 5),
        "act2": act(),
        "pool2": nn.MaxPool2d(2),
    }
    flat = flat_features(list(features.values()), channels=channels, size=size)
    head = {
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(flat, 120),
        "act3": act(),
        "fc2": nn.Linear(120, 84),
        "act4": act(),
        "fc3": nn.Linear(84, classes),
    }
    return nn.Sequential(OrderedDict(features | head))
