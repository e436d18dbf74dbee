"""WRN-28-10 (Zagoruyko & Komodakis 2016, arXiv 1605.07146), a usual network of the adversarial training literature."""

from __future__ import annotations

from torch import nn

from benchmark.models._wide_resnet import WideResNet


def wide_resnet28_10(
    *, channels: int, classes: int, size: int, activation: str = "relu", width: int = 10
) -> nn.Module:
    """4 blocks a stage; the images may have any `size`, they are averaged before the last layer."""
    return WideResNet(4, channels=channels, classes=classes, activation=activation, width=width)
