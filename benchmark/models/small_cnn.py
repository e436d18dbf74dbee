"""Two strided convolutions and two linear layers: the network most verified checkpoints use (ERAN's ConvSmall).

Wong & Kolter 2018, "Provable defenses via the convex outer adversarial polytope", arXiv 1711.00851; parameter keys 0,
2, 5, 7.
"""

from __future__ import annotations

from torch import nn

from benchmark.models.base import activation_layer, flat_features


def small_cnn(
    *,
    channels: int,
    classes: int,
    size: int,
    activation: str = "relu",
    first: int = 16,
    second: int = 32,
    pad: int = 1,
    hidden: int = 100,
) -> nn.Sequential:
    """Convolutions of `first` and `second` channels, kernel 4, stride 2; then `hidden` units."""
    act = activation_layer(activation)
    convolutions = [
        nn.Conv2d(channels, first, 4, 2, pad),
        act(),
        nn.Conv2d(first, second, 4, 2, pad),
    ]
    flat = flat_features(convolutions, channels=channels, size=size)
    head = [act(), nn.Flatten(), nn.Linear(flat, hidden), act(), nn.Linear(hidden, classes)]
    return nn.Sequential(*convolutions, *head)
