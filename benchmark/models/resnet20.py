"""ResNet-20 for CIFAR (He et al. 2016, arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from torch import nn

from benchmark.models._resnet_cifar import ResNetCifar


def resnet20(
    *, channels: int, classes: int, size: int, activation: str = "relu", width: int = 16
) -> nn.Module:
    """3 blocks a stage; the images may have any `size`, they are averaged before the last layer."""
    return ResNetCifar(3, channels=channels, classes=classes, activation=activation, width=width)
