"""What every classifier of ours shares: activations, normalisation inside the model, construction keyed by a seed.

A model maps images in [0, 1] to logits; its normalisation is part of it, as in RobustBench, so that an attack's
radius means the same for every model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import torch
from torch import Tensor, nn

from benchmark.errors import BenchError
from benchmark.models._architecture import SpecError, check_architecture, check_options


class ModelError(BenchError):
    """A model cannot be built or loaded; one line that says what came and what would be valid."""


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "softplus": lambda: nn.Softplus(
        beta=10
    ),  # near ReLU, but smooth (Dombrowski et al. 2019, arXiv 1906.07983)
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def activation_layer(name: str) -> Callable[[], nn.Module]:
    """What makes activation modules of this name. One for each use: attributions hook modules, not calls."""
    if name not in _ACTIVATIONS:
        raise ModelError(f"unknown activation {name!r}; valid: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def flat_features(features: Sequence[nn.Module], *, channels: int, size: int) -> int:
    """How many numbers an image is after these layers."""
    image = torch.zeros(1, channels, size, size)
    try:
        with torch.no_grad():
            for layer in features:
                image = layer(image)
    except RuntimeError as error:  # a kernel larger than what is left of the image
        raise ModelError(
            f"images of {size}x{size} pixels are too small for this architecture"
        ) from error
    if not image.numel():
        raise ModelError(f"images of {size}x{size} pixels are too small for this architecture")
    return image.numel()


class Normalised(nn.Module):
    """A network behind its normalisation: images in [0, 1] -> logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean:
            raise ModelError(
                f"mean and std need one number per channel, got {list(mean)} and {list(std)}"
            )
        if min(std) <= 0:
            raise ModelError(f"std needs positive numbers, got {list(std)}")
        self.net = net
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, C, H, W)."""
        if x.dim() != 4 or x.shape[1] != self.mean.shape[1]:
            channels = self.mean.shape[1]
            raise ModelError(
                f"the model takes images (n, {channels}, H, W), got a tensor of shape {tuple(x.shape)}"
            )
        logits: Tensor = self.net((x - self.mean) / self.std)
        return logits


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is built inside is on the CPU and determined by the seed; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # not torch.manual_seed, which reseeds the GPUs as well
        torch.default_generator.manual_seed(seed)
        yield


def build(
    architecture: str,
    *,
    channels: int,
    classes: int,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    activation: str = "relu",
    **options: int,
) -> Normalised:
    """A fresh model, its weights determined by the seed; torch's global generator stays as it was."""
    try:
        check_architecture(architecture)
        check_options(architecture, options)
    except SpecError as error:
        raise ModelError(str(error)) from None
    if len(mean) != channels:
        raise ModelError(
            f"mean and std need one number for each of {channels} channels, got {list(mean)}"
        )
    make = getattr(import_module(f"benchmark.models.{architecture}"), architecture)
    with seeded(seed):
        try:
            net = make(
                channels=channels, classes=classes, size=size, activation=activation, **options
            )
        except ModelError as error:
            raise ModelError(f"{architecture}: {error}") from None
        return Normalised(net, mean, std)
