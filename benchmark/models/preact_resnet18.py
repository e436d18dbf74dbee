"""Pre-activation ResNet-18 for CIFAR (He et al. 2016, "Identity Mappings in Deep Residual Networks", arXiv 1603.05027).

With a batch normalisation before the last layer, as in the adversarial training literature (Wong et al. 2020, Rice et
al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from benchmark.models.base import activation_layer


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.act1 = act()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.act2 = act()
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(x))
        # the identity goes around everything, a projection takes the activated input
        around = x if self.shortcut is None else self.shortcut(out)
        return self.conv2(self.act2(self.bn2(self.conv1(out)))) + around


class _PreActResNet(nn.Module):
    def __init__(self, channels: int, classes: int, activation: str, width: int) -> None:
        super().__init__()
        act = activation_layer(activation)
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.layer1 = nn.Sequential(_Block(width, width, 1, act), _Block(width, width, 1, act))
        self.layer2 = nn.Sequential(
            _Block(width, 2 * width, 2, act), _Block(2 * width, 2 * width, 1, act)
        )
        self.layer3 = nn.Sequential(
            _Block(2 * width, 4 * width, 2, act), _Block(4 * width, 4 * width, 1, act)
        )
        self.layer4 = nn.Sequential(
            _Block(4 * width, 8 * width, 2, act), _Block(8 * width, 8 * width, 1, act)
        )
        self.bn = nn.BatchNorm2d(8 * width)
        self.act = act()
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        logits: Tensor = self.linear(self.act(self.bn(out)).mean((2, 3)))
        return logits


def preact_resnet18(
    *, channels: int, classes: int, size: int, activation: str = "relu", width: int = 64
) -> nn.Module:
    """`width` channels in the first stage, eight times as many in the fourth; images of any `size`."""
    return _PreActResNet(channels, classes, activation, width)
