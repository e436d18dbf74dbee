"""WRN-34-10 (Zagoruyko & Komodakis 2016, arXiv 1605.07146), a usual network of the adversarial training literature."""

from __future__ import annotations

from torch import nn

from benchmark.models._wide_resnet import WideResNet


def wide_resnet34_10(
    *, channels: int, classes: int, size: int, activation: str = "relu", width: int = 10
) -> nn.Module:
    """5 blocks a stage; the images may have any `size`, they are averaged before the last layer."""
    return WideResNet(5, channels=channels, classes=classes, activation=activation, width=width)
