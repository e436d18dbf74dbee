"""The CIFAR-10 classifier of Kim, Seo & Jeon 2019, arXiv 1903.11626.

"Bridging Adversarial Robustness and Gradient Interpretability". Four 3x3 convolutions in two pooled pairs, 512 hidden
units, as in the authors' repository (1202kbs/Robustness-and-Interpretability).
"""

from __future__ import annotations

from torch import nn

from benchmark.models._glorot import glorot_uniform
from benchmark.models.base import activation_layer, flat_features


def kim2019_cifar(
    *, channels: int, classes: int, size: int, activation: str = "relu"
) -> nn.Sequential:
    """Glorot-uniform weights, zero biases; the authors' data were scaled to [-1, 1] (mean and std 0.5)."""
    act = activation_layer(activation)
    features: list[nn.Module] = []
    for before, after in ((channels, 32), (32, 64)):
        features += [nn.Conv2d(before, after, 3, padding=1), act()]
        features += [nn.Conv2d(after, after, 3, padding=1), act(), nn.MaxPool2d(2)]
    flat = flat_features(features, channels=channels, size=size)
    head = [nn.Flatten(), nn.Linear(flat, 512), act(), nn.Linear(512, classes)]
    net = nn.Sequential(*features, *head)
    glorot_uniform(net)
    return net
