"""ResNets for CIFAR with parameter-free shortcuts (He et al. 2016, arXiv 1512.03385, section 4.2, option A).

Module names as in akamaster/pytorch_resnet_cifar10, whose trained weights load without a change of keys.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models.base import activation_layer


class _Shortcut(nn.Module):
    """Every second pixel, the new channels zero: half of them below, half above."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.act1 = act()
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Identity() if before == after else _Shortcut(after - before)
        self.act2 = act()

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNetCifar(nn.Module):
    """6 `blocks` + 2 weighted layers; `width`, twice and four times as many channels in the three stages."""

    def __init__(
        self, blocks: int, *, channels: int, classes: int, activation: str, width: int
    ) -> None:
        super().__init__()
        act = activation_layer(activation)
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act = act()
        self.layer1 = _stage(blocks, width, width, 1, act)
        self.layer2 = _stage(blocks, width, 2 * width, 2, act)
        self.layer3 = _stage(blocks, 2 * width, 4 * width, 2, act)
        self.linear = nn.Linear(4 * width, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes)."""
        out = self.act(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.linear(out.mean((2, 3)))
        return logits


def _stage(
    blocks: int, before: int, after: int, stride: int, act: Callable[[], nn.Module]
) -> nn.Sequential:
    rest = [_Block(after, after, 1, act) for _ in range(blocks - 1)]
    return nn.Sequential(_Block(before, after, stride, act), *rest)
