"""The MNIST classifier of Kim, Seo & Jeon 2019, arXiv 1903.11626.

"Bridging Adversarial Robustness and Gradient Interpretability". Two 5x5 convolutions with one pooling, 1024 hidden
units, as in the authors' repository (1202kbs/Robustness-and-Interpretability).
"""

from __future__ import annotations

from torch import nn

from benchmark.models._glorot import glorot_uniform
from benchmark.models.base import activation_layer, flat_features


def kim2019_mnist(
    *, channels: int, classes: int, size: int, activation: str = "relu"
) -> nn.Sequential:
    """Glorot-uniform weights, zero biases; the authors' data were scaled to [-1, 1] (mean and std 0.5)."""
    act = activation_layer(activation)
    features = [
        *(nn.Conv2d(channels, 32, 5, padding=2), act(), nn.Conv2d(32, 64, 5, padding=2), act()),
        nn.MaxPool2d(2),
    ]
    flat = flat_features(features, channels=channels, size=size)
    head = [nn.Flatten(), nn.Linear(flat, 1024), act(), nn.Linear(1024, classes)]
    net = nn.Sequential(*features, *head)
    glorot_uniform(net)
    return net
