"""The recipe of a training: everything that is the same for all methods that are compared. Plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt


@dataclass(frozen=True)
class Recipe:
    """Architecture, optimiser and schedule; per-dataset values stand in benchmark/datasets/defaults.toml."""

    architecture: str
    activation: Literal["relu", "softplus", "gelu", "silu"] = "relu"
    epochs: Annotated[int, Ge(1)] = 20
    batch_size: Annotated[int, Ge(1)] = 128
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Gt(0)] = 1e-3
    weight_decay: Annotated[float, Ge(0)] = 0.0
    schedule: Literal["constant", "onecycle", "piecewise"] = "onecycle"
    """Learning rate over the run: constant; a linear rise over 30% and a cosine fall; tenfold drops at 50% and 75%."""
    augment: Literal["none", "crop_flip"] = "none"
    """crop_flip: shift by up to 4 pixels with zero padding, and mirror half of the images."""
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights are kept: the best on the validation split by the mean of clean and PGD-10 accuracy (the
    later one if equal), or the last. One rule for all methods, under the training's own threat or the suite's. PGD-10
    alone would choose a barely trained epoch where robust accuracy falls to 0 as the model learns."""
