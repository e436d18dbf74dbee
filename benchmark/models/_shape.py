"""What a model is made for."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """The images (channels, and pixels along each side) and the number of classes."""

    channels: int
    classes: int
    size: int
