"""Somebody's weights in an architecture of ours, behind a normalisation."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from benchmark import keys
from benchmark.models import _files, _state
from benchmark.models._shape import Shape
from benchmark.models.base import ModelError, build
from benchmark.models.spec import FileSpec


def load(spec: FileSpec, shape: Shape) -> tuple[nn.Module, str]:
    """The model, and the sha256 of its file. Without mean and std the images go in as they are."""
    found, digest = _files.load(spec.path, spec.sha256)
    state = _state.parameters(found, spec.key, spec.ignore)
    model = build(
        spec.architecture,
        channels=shape.channels,
        classes=shape.classes,
        size=shape.size,
        mean=per_channel(spec.mean or (0.0,), shape.channels, "mean"),
        std=per_channel(spec.std or (1.0,), shape.channels, "std"),
        seed=0,  # every weight is replaced
        activation=spec.activation,
        **dict(spec.options),
    )
    _state.fill(model.net, state, spec.architecture)
    return model, digest


def facts(spec: FileSpec) -> Any:
    """What is done with the weights, and by which code."""
    anywhere = asdict(replace(spec, text="", path=Path(), sha256=""))
    # whose they are changes nothing
    own = {name: value for name, value in anywhere.items() if name not in ("licence", "source")}
    return [own, keys.network_code(spec.architecture)]


def per_channel(numbers: tuple[float, ...], channels: int, what: str) -> tuple[float, ...]:
    """One number for each channel; one number stands for all of them."""
    if len(numbers) not in (1, channels):
        raise ModelError(f"{what} has {len(numbers)} numbers, the images have {channels} channels")
    return numbers * channels if len(numbers) == 1 else numbers
