"""The ConvMed network of COLT (Balunovic & Vechev 2020, "Adversarial Training and Provable Defenses").

Keys as in eth-sri/colt: blocks.layers.1.conv, .3.conv, .6.linear, .8.linear; its files also hold `deepz_lambda`,
which belongs to the verification and is to be ignored.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from benchmark.models.base import activation_layer, flat_features


def colt_convmed(
    *, channels: int, classes: int, size: int, activation: str = "relu"
) -> nn.Sequential:
    """Strided convolutions of 32 (5x5) and 64 (4x4) channels, then 100 units."""
    act = activation_layer(activation)
    features: list[nn.Module] = [
        nn.Identity(),  # the repository's normalisation stands here
        _named("conv", nn.Conv2d(channels, 32, 5, 2, 2)),
        act(),
        _named("conv", nn.Conv2d(32, 64, 4, 2, 1)),
        act(),
    ]
    flat = flat_features(features, channels=channels, size=size)
    head = [
        _named("linear", nn.Linear(flat, 100)),
        act(),
        _named("linear", nn.Linear(100, classes)),
    ]
    return _named("blocks", _named("layers", nn.Sequential(*features, nn.Flatten(), *head)))


def _named(name: str, layer: nn.Module) -> nn.Sequential:
    """One layer under a name, which becomes part of its parameters' keys."""
    return nn.Sequential(OrderedDict({name: layer}))
