"""Glorot's uniform initialisation with zero biases, TensorFlow's default (Glorot & Bengio 2010)."""

from __future__ import annotations

from torch import nn


def glorot_uniform(net: nn.Module) -> None:
    """Initialise every convolution and linear layer in place."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
