"""ResNet-50 for ImageNet (He et al. 2016, "Deep residual learning for image recognition", arXiv 1512.03385).

The stride is in the 3x3 convolution and the parameters are named as in torchvision, whose weights fit. Every
activation is a module of its own, which attributions by hooks need.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from benchmark.models.base import activation_layer


class _Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        after = 4 * width
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1, self.act1 = nn.BatchNorm2d(width), act()
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(width), act()
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3, self.act3 = nn.BatchNorm2d(after), act()
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.act2(self.bn2(self.conv2(out)))
        around = x if self.downsample is None else self.downsample(x)
        shown: Tensor = self.act3(self.bn3(self.conv3(out)) + around)
        return shown


class _ResNet(nn.Module):
    def __init__(self, channels: int, classes: int, activation: str, width: int) -> None:
        super().__init__()
        act = activation_layer(activation)
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1, self.act1 = nn.BatchNorm2d(width), act()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = width
        for number, blocks in enumerate((3, 4, 6, 3)):
            layer = []
            for block in range(blocks):
                stride = 2 if number and not block else 1
                layer.append(_Bottleneck(before, width * 2**number, stride, act))
                before = 4 * width * 2**number
            setattr(self, f"layer{number + 1}", nn.Sequential(*layer))
        self.fc = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        out = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        for number in range(4):
            out = getattr(self, f"layer{number + 1}")(out)
        return self.fc(out.mean((2, 3)))


def resnet50(
    *, channels: int, classes: int, size: int, activation: str = "relu", width: int = 64
) -> nn.Module:
    """`width`: channels of the first layer. Takes any image size from 32 pixels on."""
    return _ResNet(channels, classes, activation, width)
