"""The recipe of a training: everything that is the same for all methods that are compared. Plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt


@dataclass(frozen=True)
class Recipe:
    """Architecture, optimiser and schedule; per-dataset values stand in benchmark/datasets/defaults.toml."""

    architecture: str
    activation: Literal["relu", "softplus", "gelu", "silu"] = "relu"
    """Penalties on input gradients are weak with relu, whose second derivative is zero almost everywhere."""
    pixels: Literal["standardised", "symmetric", "plain"] = "standardised"
    """What the network sees: the data set's mean and deviation taken out, [0, 1] mapped to [-1, 1], or [0, 1]."""
    epochs: Annotated[int, Ge(1)] = 20
    budget: Literal["epochs", "cost"] = "epochs"
    """What `epochs` counts: passes over the data, or the cost of so many epochs of standard training (measured in
    floating-point operations of a step), so that a method that costs ten times as much trains for a tenth of them."""
    batch_size: Annotated[int, Ge(1)] = 128
    order: Literal["shuffled", "stored"] = "shuffled"
    """Batches in an order of each epoch's own, or as the images are stored."""
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Gt(0)] = 1e-3
    weight_decay: Annotated[float, Ge(0)] = 0.0
    schedule: Literal["constant", "onecycle", "triangular", "cyclic", "piecewise"] = "onecycle"
    """Learning rate over the run: constant; a linear rise over 30%, then a cosine fall; a linear rise to the middle,
    then a linear fall; the same with the peak at 40% (Wong's on MNIST, Rice's "cyclic"); tenths at 50% and at 75%."""
    eps_ramp: Annotated[float, Ge(0), Le(1)] = 0.0
    """Share of the training over which the threat's radius rises from 0, for all methods that have one. Where the full
    radius is too hard to begin with (MNIST at Linf 0.3), training else ends at a constant prediction."""
    augment: Literal["none", "crop_flip"] = "none"
    """crop_flip: shift by up to 4 pixels with zero padding, and mirror half of the images."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast in training steps; methods that differentiate input gradients refuse it."""
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    """How weights and images of convolutions lie in memory while training: a matter of speed, but for rounding."""
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Decay per step of an exponential moving average of the weights, which is then what is kept; 0: no average. After
    t updates it is min(ema, (1 + t) / (10 + t)), as TensorFlow's with `num_updates`: in a short training the weights of
    the first steps would else be most of the average."""
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights are kept: the best on the validation split by the mean of clean and PGD-10 accuracy (the
    later one if equal), or the last. One rule for all methods, under the training's own threat or the suite's. PGD-10
    alone would choose a barely trained epoch where robust accuracy falls to 0 as the model learns."""
