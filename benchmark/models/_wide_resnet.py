"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146), without dropout.

Module names as in the code that TRADES and most of RobustBench's checkpoints share, whose weights load without a
change of keys (TRADES' own have a `sub_block1` that is never used: ignore=sub_block1).
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
        self.convShortcut: nn.Module | None = None
        if before != after:
            self.convShortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(x))
        # the identity goes around everything, a projection takes the activated input
        around = x if self.convShortcut is None else self.convShortcut(out)
        return self.conv2(self.act2(self.bn2(self.conv1(out)))) + around


class _Stage(nn.Module):
    def __init__(
        self, blocks: int, before: int, after: int, stride: int, act: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        rest = [_Block(after, after, 1, act) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(_Block(before, after, stride, act), *rest)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """6 `blocks` + 4 layers; 16, 32 and 64 times `width` channels in the three stages."""

    def __init__(
        self, blocks: int, *, channels: int, classes: int, activation: str, width: int
    ) -> None:
        super().__init__()
        act = activation_layer(activation)
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.block1 = _Stage(blocks, 16, 16 * width, 1, act)
        self.block2 = _Stage(blocks, 16 * width, 32 * width, 2, act)
        self.block3 = _Stage(blocks, 32 * width, 64 * width, 2, act)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.act = act()
        self.fc = nn.Linear(64 * width, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes)."""
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(self.act(self.bn1(out)).mean((2, 3)))
        return logits
