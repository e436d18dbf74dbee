"""ResNet-2B: two residual blocks without batch normalisation, from the VNN-COMP 2021 CIFAR-10 benchmark.

Keys conv1, layer1.{0,1}.{conv1,conv2,shortcut.0}, linear1, linear2, as in the files of alpha-beta-CROWN.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from benchmark.models.base import activation_layer, flat_features


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1)
        self.act1 = act()
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1)
        same = stride == 1 and before == after
        self.shortcut = (
            nn.Sequential() if same else nn.Sequential(nn.Conv2d(before, after, 1, stride))
        )
        self.act2 = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act2(self.conv2(self.act1(self.conv1(x))) + self.shortcut(x))


def resnet2b(*, channels: int, classes: int, size: int, activation: str = "relu") -> nn.Sequential:
    """8 channels at the stem, 16 in both blocks, then 100 units."""
    act = activation_layer(activation)
    features: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(channels, 8, 3, 2, 1),
        "act1": act(),
        "layer1": nn.Sequential(_Block(8, 16, 2, act), _Block(16, 16, 1, act)),
    }
    flat = flat_features(list(features.values()), channels=channels, size=size)
    head = {
        "flatten": nn.Flatten(),
        "linear1": nn.Linear(flat, 100),
        "act2": act(),
        "linear2": nn.Linear(100, classes),
    }
    return nn.Sequential(OrderedDict(features | head))
